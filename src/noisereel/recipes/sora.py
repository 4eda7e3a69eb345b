"""Sora: a causal 3-D autoencoder and a transformer on spacetime patches (OpenAI 2024; Yang et al. 2024, CogVideoX)."""

from __future__ import annotations

from typing import Any, Literal

from noisereel.codecs.causal_vae import CausalVAE
from noisereel.diffusion.guidance import cfg
from noisereel.diffusion.process import Diffusion
from noisereel.diffusion.samplers import dpmpp_2m
from noisereel.diffusion.schedules import LinearBeta, Rectified, snr_shift
from noisereel.diffusion.times import logit_normal, stratified
from noisereel.nets.dit import DiT
from noisereel.recipes.plan import Plan, initialised, sized
from noisereel.recipes.sora_training import phases
from noisereel.stage import Stage
from noisereel.system import System
from noisereel.text.small import SmallTextEncoder

Size = Literal["tiny", "small", "base", "paper"]

SHORTCUTS: dict[str, Any] = dict(halve=("thw", "thw"), resample="residual")  # half the error after 120 steps

# For each size: the video; the autoencoder; the transformer and the text encoder's width; the length and pace of training.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": dict(
        shape=(9, 16, 16), others=((5, 16, 24),), fps=8.0, text=32,
        vae=dict(widths=(8, 16, 16), halve=("thw", "thw"), latent_channels=4, blocks=1, attention=False),
        net=dict(width=32, depth=2, heads=2),
        pixels=256, decoder=0, stills=256, clips=512, kept=64, batch=8, vae_batch=8, vae_rate=4e-3, rate=2e-3,
    ),
    "small": dict(
        shape=(17, 64, 64), others=(), fps=16.0, text=192,
        vae=dict(widths=(32, 64, 128), latent_channels=8, patch=2, blocks=1, attention=False, **SHORTCUTS),
        net=dict(width=256, depth=8, heads=4),
        pixels=24_000, decoder=800, stills=600_000, clips=250_000,
        kept=20_000, batch=32, vae_batch=4, vae_rate=2.5e-4, rate=6e-4,
    ),
    "base": dict(
        shape=(17, 64, 64), others=((17, 48, 80), (17, 80, 48), (9, 64, 64)), fps=16.0, text=256,
        vae=dict(widths=(64, 128, 256), latent_channels=16, patch=2, **SHORTCUTS),
        net=dict(width=512, depth=12, heads=8),
        pixels=400_000, decoder=40_000, stills=6_000_000, clips=3_000_000,
        kept=200_000, batch=256, vae_batch=32, vae_rate=5e-4, rate=4e-4,
    ),
    "paper": dict(
        shape=(49, 480, 720), others=(), fps=8.0, text=4096,
        vae=dict(widths=(128, 256, 256, 512), halve=("thw", "thw", "hw"), latent_channels=16, blocks=3, attention=False),
        net=dict(width=1920, depth=30, heads=30, embed_width=512, time_width=1920, norm_affine=True, gelu="tanh",
                 text_mask=False, positions="sincos", position_scale=(1.0, 1.875, 1.875)),
        pixels=1_000_000, decoder=0, stills=0, clips=35_000_000, kept=1, batch=2000, vae_batch=128, vae_rate=1e-4, rate=1e-4,
    ),
}  # fmt: skip


def sora(
    size: Size = "small",
    data: str = "shapes-small",
    vae: str = "",
    guidance: float = 3.0,
    steps: int = 24,
    pixels: int = 0,
    stills: int = 0,
    clips: int = 0,
    batch: int = 0,
    rate: float = 0.0,
    buckets: int = 0,
    seed: int = 0,
) -> Plan:
    """A transformer on the spacetime patches of a causal autoencoder's latents, for images and videos alike.

    Args:
        size: tiny (seconds, for tests), small (hours of a CPU core that computes in bf16), base (an accelerator), or paper
            (CogVideoX-2B as published).
        data: what to train on, see ``noisereel.worlds.pools``.
        vae: the name or folder of a trained model whose autoencoder to take, instead of training one.
        guidance: classifier-free guidance scale in sampling; 1 is none.
        steps: sampling steps.
        pixels: clips the autoencoder is trained on; 0 is the size's own number, as below.
        stills: images the transformer learns from before the first video.
        clips: how many clips the transformer's training sees.
        batch: clips at a time.
        rate: learning rate of the transformer.
        buckets: in how many sizes and lengths, at most, to train on a folder's own ones; 0 crops all to the size's own.
        seed: of the initial weights and of the order of the data.
    """
    preset = sized(SIZES, size, pixels=pixels, stills=stills, clips=clips, batch=batch, rate=rate)
    with initialised(seed):
        codec = CausalVAE(**preset["vae"])
        text = SmallTextEncoder(dim=preset["text"])
        net = DiT(channels=codec.channels, text_dim=text.dim, pooled_dim=text.pooled_dim, scalars=("fps",), **preset["net"])
    stage = Stage(
        net=net,
        diffusion=process(size),
        codec=codec,
        text=text,
        shape=preset["shape"],
        fps=preset["fps"],
        guide=cfg(guidance),
        sampler=dpmpp_2m(),
        steps=steps,
        prefixes=0.15,
    )
    return Plan(system=System(stages={"base": stage}), phases=lambda: phases(stage, preset, data, vae, buckets, seed))


def process(size: Size) -> Diffusion:
    """Rectified flow, the middle times drawn more often (Esser et al. 2024); as published, v with zero terminal SNR."""
    if size != "paper":
        return Diffusion(schedule=Rectified(), predicts="flow", draw=logit_normal())
    schedule = LinearBeta(start=0.00085, end=0.012, scaled=True, shift=snr_shift(3.0), zero_terminal=True)
    return Diffusion(schedule=schedule, predicts="v", draw=stratified)
