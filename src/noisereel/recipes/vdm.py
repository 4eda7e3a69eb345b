"""VDM: one space-time U-Net in pixels, trained on videos and images together (Ho et al. 2022, arXiv 2204.03458)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from noisereel.codecs.contrasts import Contrasts
from noisereel.codecs.pixels import Pixels
from noisereel.data.mix import Mix
from noisereel.diffusion.guidance import cfg
from noisereel.diffusion.process import Diffusion, Predicts
from noisereel.diffusion.samplers import ancestral
from noisereel.diffusion.schedules import Cosine
from noisereel.diffusion.times import DrawTime, logit_normal, stratified
from noisereel.nets.unet import UNet
from noisereel.recipes.plan import Plan, initialised, paced, sized
from noisereel.recipes.words import learn_words, text_encoder
from noisereel.stage import Stage
from noisereel.system import System
from noisereel.trainer import Phase
from noisereel.worlds.pools import Pools

Size = Literal["tiny", "small", "base", "paper"]

# For each size: the video, the process, the text encoder's width; the network; the length and pace of training.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": dict(
        shape=(4, 16, 16), fps=4.0, codec=Pixels(patch=2), shift=-2.0, predicts="x0", text=32,
        net=dict(width=16, multipliers=(1, 2), depth=1, attention=(False, True), head_width=8, norm_groups=8),
        stills=256, clips=512, batch=8, rate=2e-3,
    ),
    "small": dict(
        shape=(8, 32, 32), fps=8.0, codec=Contrasts(), shift=-2.5, draw=logit_normal(2.0, 1.1), predicts="x0", text=128,
        net=dict(
            width=32, multipliers=(1, 2, 4), depth=(1, 1, 2), attention=(False, False, True), head_width=32, norm_groups=16,
            temporal_conv="residual",
        ),
        prefixes=0.5, stills=80_000, animated=12_000, clips=60_000, batch=8, rate=1.5e-3,
    ),
    "base": dict(
        shape=(16, 64, 64), fps=16.0, codec=Pixels(patch=2), shift=-5.0, predicts="x0", text=256,
        net=dict(width=64, multipliers=(1, 2, 2, 3), attention=(False, True, True, True)),
        stills=4_000_000, clips=1_500_000, batch=256, rate=5e-4,
    ),
    "paper": dict(
        shape=(16, 64, 64), fps=16.0, codec=Pixels(), shift=0.0, predicts="eps", text=1024,
        net=dict(width=256, multipliers=(1, 2, 4, 8)),
        stills=0, clips=700_000 * 128, batch=128, rate=3e-4,
    ),
}  # fmt: skip


def vdm(
    size: Size = "small",
    data: str = "shapes-small",
    text: str = "",
    images: int = 1,
    guidance: float = 2.0,
    steps: int = 32,
    width: int = 0,
    stills: int = 0,
    clips: int = 0,
    batch: int = 0,
    rate: float = 0.0,
    seed: int = 0,
) -> Plan:
    """A space-time U-Net on videos, with images of their own captions appended to every clip.

    Args:
        size: tiny (seconds, for tests), small (two hours of a CPU core that computes in bf16), base (an accelerator), or paper
            (as published).
        data: what to train on, see ``noisereel.worlds.pools``.
        text: the name or folder of a trained model whose text encoder to take, frozen, instead of learning one.
        images: images appended to each clip as extra frames; VDM tries 0, 4 and 8.
        guidance: classifier-free guidance scale in sampling; 1 is none.
        steps: sampling steps.
        width: channels at full size; 0 is the size's own number.
        stills: images to learn from before the first video, where there are images at all; 0 is the size's own number.
        clips: how many clips training sees; 0 is the size's own number.
        batch: clips at a time; 0 is the size's own number.
        rate: learning rate; 0 is the size's own.
        seed: of the initial weights and of the order of the data.
    """
    preset = sized(SIZES, size, stills=stills, clips=clips, batch=batch, rate=rate)
    network = preset["net"] | (dict(width=width) if width else {})
    codec = preset["codec"]
    with initialised(seed):
        encoder = text_encoder(text, preset["text"])
        net = UNet(channels=codec.channels, pooled_dim=encoder.pooled_dim, **network)
    stage = Stage(
        net=net,
        diffusion=diffusion(preset["predicts"], preset["shift"], preset.get("draw", stratified)),
        codec=codec,
        text=encoder,
        shape=preset["shape"],
        fps=preset["fps"],
        guide=cfg(guidance),
        sampler=ancestral(gamma=0.3),
        steps=steps,
        prefixes=preset.get("prefixes", 0.0),
    )
    return Plan(system=System(stages={"base": stage}), phases=lambda: phases(stage, preset, data, images, seed))


def phases(stage: Stage, preset: dict[str, Any], data: str, images: int, seed: int) -> list[Phase]:
    """Images alone; how first frames go on, where the size begins so; then videos, with images appended."""
    pools = Pools.open(data, shape=stage.shape, fps=stage.fps)
    learn_words(stage.text, lambda: pools.captions(1500))
    batch = preset["batch"]
    pairs: dict[str, Any] = dict(images=pools.images, images_per_clip=images) if images else {}
    rows: dict[str, tuple[int, Stage, Mix]] = {}
    if images:  # an image costs a fraction of a clip, so what things look like is met sooner
        rows["images"] = preset["stills"], stage, Mix(images=pools.images, batch=4 * batch, seed=seed)
    rows["animated"] = preset.get("animated", 0), animating(stage), Mix(video=pools.video, batch=batch, seed=seed)
    rows["joint"] = preset["clips"], stage, Mix(video=pools.video, batch=batch, seed=seed, **pairs)
    common: dict[str, Any] = dict(
        held_out=Mix(video=pools.held_out, batch=64)(0),
        learning_rate=preset["rate"],
        prompts=pools.prompts(8),
    )
    return [
        Phase(
            name=name,
            target=target,
            data=mix,
            decay="cosine" if name == "joint" else "constant",
            **paced(clips, mix.batch),
            **common,
        )
        for name, (clips, target, mix) in rows.items()
        if clips
    ]


def animating(stage: Stage) -> Stage:
    """The stage as it learns what words of motion mean: the first frame is given, and of the others nothing is to be seen.

    Where all of a video is unknown, where a thing is drowns where it goes, and the four directions are learned late or never.
    """
    noise = replace(stage.diffusion, draw=logit_normal(9.0, 0.0))
    return replace(stage, prefixes=1.0, longest_prefix=1, diffusion=noise)


def diffusion(predicts: Predicts, shift: float, draw: DrawTime = stratified) -> Diffusion:
    """The cosine process of the paper, told to the network as log-SNR.

    Where a position holds many pixels the clean video is predicted: v would ask a narrow network to carry all their noise
    through. The shift towards noise is larger the more pixels tell of the same thing (Hoogeboom et al. 2023).
    """
    return Diffusion(schedule=Cosine(shift=shift), predicts=predicts, draw=draw, tells="log_snr")
