"""Video LDM: an image latent diffusion model, frozen, with layers over time (Blattmann et al. 2023, arXiv 2304.08818)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from noisereel.diffusion.guidance import cfg
from noisereel.recipes.plan import Plan, initialised, sized
from noisereel.recipes.video_ldm_networks import between, in_motion, new, opened
from noisereel.recipes.video_ldm_training import phases
from noisereel.system import System

Size = Literal["tiny", "small", "base", "paper"]

# For each size: the video; the text encoder's width; the autoencoder and what it is trained by; the network; and training: how
# far each phase goes, and at what pace.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": dict(
        shape=(8, 16, 16), fps=8.0, text=32, predicts="v",
        vae=dict(channels=4, width=8, multipliers=(1, 2, 2), depth=1, norm_groups=4), looks=((8,), (16,)), adversary=8,
        net=dict(width=16, multipliers=(1, 2), depth=1, attention=(True, True), head_width=8, norm_groups=8, pooled_dim=32),
        clips=dict(features=32, autoencoder=128, adversary=16, decoder=16, images=128, videos=128, between=64),
        kept=64, batch=8, vae_batch=8, vae_rate=4e-3, rate=2e-3,
    ),
    "small": dict(
        shape=(8, 32, 32), fps=8.0, text=192, predicts="v",
        vae=dict(channels=16, width=32, multipliers=(1, 2, 3), depth=1, norm_groups=16, patch=2, shortcuts=True),
        looks=(), adversary=0,
        net=dict(width=128, multipliers=(1,), depth=1, attention=(True,), head_width=32, pooled_dim=192),
        clips=dict(autoencoder=40_000, decoder=1_200, images=80_000, videos=12_000, between=8_000),
        kept=2_500, batch=8, vae_batch=8, vae_rate=1e-3, rate=8e-4,
    ),
    "base": dict(
        shape=(16, 64, 64), fps=16.0, text=256, predicts="v",
        vae=dict(channels=8, width=64, multipliers=(1, 2, 4, 4)), looks=((32, 32), (64, 64), (128, 128)), adversary=32,
        net=dict(width=128, multipliers=(1, 2, 2), attention=(True, True, True), pooled_dim=256),
        clips=dict(
            features=200_000, autoencoder=400_000, adversary=100_000, decoder=20_000, images=4_000_000, videos=1_000_000,
            between=500_000,
        ),
        kept=100_000, batch=128, vae_batch=64, vae_rate=5e-4, rate=4e-4,
    ),
    "paper": dict(
        shape=(8, 320, 512), fps=1.875, text=1024, predicts="eps",
        vae=dict(channels=4), looks=((64, 64), (128, 128), (256,) * 3, (512,) * 3), adversary=64,
        net=dict(width=320, multipliers=(1, 2, 4, 4), attention=(True, True, True, False), scale_shift=False),
        clips=dict(
            features=10_000_000, autoencoder=10_000_000, adversary=1_000_000, decoder=1_000_000, images=1_000_000_000,
            videos=12_000_000, between=10_000_000,
        ),
        kept=1, batch=512, vae_batch=64, vae_rate=1e-4, rate=1e-4,
    ),
}  # fmt: skip


def video_ldm(
    size: Size = "small",
    data: str = "shapes-small",
    image: str = "",
    text: str = "",
    captions: bool = True,
    rounds: int = 0,
    guidance: float = 4.0,
    steps: int = 24,
    pixels: int = 0,
    stills: int = 0,
    clips: int = 0,
    seed: int = 0,
) -> Plan:
    """An image model in the latents of an autoencoder, frozen, and layers between its own that make its frames a video.

    Args:
        size: tiny (seconds, for tests), small (an hour of a CPU core that computes in bf16), base (an accelerator), or paper
            (as published).
        data: what to train on, see ``noisereel.worlds.pools``.
        image: the folder of an image model to take instead of training one: Stable Diffusion's as diffusers saves it, or a
            model of this recipe.
        text: the name or folder of a trained model whose text encoder to take, frozen, instead of learning one.
        captions: whether the layers over time read captions; without, unlabelled videos will do.
        rounds: of interpolation, 0 to 2; each puts three frames between every two, so that 8 become 29 and then 113.
        guidance: classifier-free guidance scale in sampling; 1 is none.
        steps: sampling steps.
        pixels: images the autoencoder is trained on; 0 is the size's own number, as below, or none with ``image``.
        stills: images the image network is trained on.
        clips: videos the layers over time are trained on.
        seed: of the initial weights and of the order of the data.
    """
    row = sized(SIZES, size)
    if not 0 <= rounds <= 2:
        raise ValueError(f"{rounds} rounds of interpolation: 0, 1 or 2 would do")
    if image and text:
        raise ValueError(f"the image model in {image} brings a text encoder: leave out that of {text}")
    taken = dict(autoencoder=0, adversary=0, images=0) if image else {}
    asked = {name: number for name, number in dict(autoencoder=pixels, images=stills, videos=clips).items() if number}
    preset = row | {"clips": row["clips"] | taken | asked}
    with initialised(seed):
        still = opened(Path(image).expanduser()) if image else new(preset, text)
        keys = in_motion(still, preset, captions)
    stages = {"base": replace(keys, guide=cfg(guidance), steps=steps)}
    for number in range(1, rounds + 1):
        stages[f"x{4**number}"] = between(list(stages.values())[-1])
    system = System(stages=stages)
    return Plan(system=system, phases=lambda: phases(system, preset, data, captions, seed))
