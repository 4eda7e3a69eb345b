"""VDM: one space-time U-Net in pixels, trained on videos and images together (Ho et al. 2022, arXiv 2204.03458)."""

from __future__ import annotations

from typing import Any, Literal

from noisereel.codecs.pixels import Pixels
from noisereel.data.mix import Mix
from noisereel.diffusion.guidance import cfg
from noisereel.diffusion.process import Diffusion, Predicts
from noisereel.diffusion.samplers import ancestral
from noisereel.diffusion.schedules import Cosine
from noisereel.diffusion.times import like, one, stratified
from noisereel.nets.unet import UNet
from noisereel.recipes.plan import Plan, initialised
from noisereel.stage import Stage
from noisereel.system import System
from noisereel.text.small import SmallTextEncoder
from noisereel.trainer import Phase
from noisereel.worlds.pools import Pools

Size = Literal["tiny", "small", "base", "paper"]

# For each size: the video, the network, the text encoder's width, the length and pace of training.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": dict(
        shape=(4, 16, 16), fps=4.0, patch=2, shift=-2.0, predicts="x0", text=32, clips=512, batch=8, rate=2e-3,
        net=dict(width=16, multipliers=(1, 2), depth=1, attention=(False, True), head_width=8, norm_groups=8),
    ),
    "small": dict(
        shape=(8, 32, 32), fps=8.0, patch=4, shift=-3.0, predicts="x0", text=128, clips=120_000, batch=16, rate=6e-4,
        net=dict(width=96, multipliers=(1, 2), depth=1, attention=(True, True), head_width=48, norm_groups=16),
    ),
    "base": dict(
        shape=(16, 64, 64), fps=16.0, patch=2, shift=-4.0, predicts="x0", text=256, clips=5_000_000, batch=256, rate=3e-4,
        net=dict(width=128, multipliers=(1, 2, 3, 4), attention=(False, True, True, True)),
    ),
    "paper": dict(
        shape=(16, 64, 64), fps=16.0, patch=1, shift=0.0, predicts="eps", text=1024, clips=700_000 * 128, batch=128, rate=3e-4,
        net=dict(width=256, multipliers=(1, 2, 4, 8), temporal_attention="relative"),
    ),
}  # fmt: skip


def vdm(
    size: Size = "small",
    data: str = "shapes-small",
    images: int = 4,
    guidance: float = 2.0,
    steps: int = 64,
    width: int = 0,
    clips: int = 0,
    batch: int = 0,
    rate: float = 0.0,
    seed: int = 0,
) -> Plan:
    """A space-time U-Net on videos, with images of their own captions appended to every clip.

    Args:
        size: tiny (seconds, for tests), small (an hour or two of two CPU cores), base (an accelerator), paper (as published).
        data: what to train on, see ``noisereel.worlds.pools``.
        images: images appended to each clip as extra frames; VDM tries 0, 4 and 8.
        guidance: classifier-free guidance scale in sampling; 1 is none.
        steps: sampling steps.
        width: channels at full size; 0 is the size's own number.
        clips: how many clips training sees; 0 is the size's own number.
        batch: clips at a time; 0 is the size's own number.
        rate: learning rate; 0 is the size's own.
        seed: of the initial weights and of the order of the data.
    """
    if size not in SIZES:
        raise ValueError(f"there is no size {size!r}; the sizes are {', '.join(SIZES)}")
    asked = dict(clips=clips, batch=batch, rate=rate)
    preset = SIZES[size] | {name: value for name, value in asked.items() if value}
    # Rotary positions are relative too, and twice as fast as the paper's learned ones.
    network = dict(temporal_attention="rotary") | preset["net"] | (dict(width=width) if width else {})
    codec = Pixels(patch=preset["patch"])
    with initialised(seed):
        text = SmallTextEncoder(dim=preset["text"])
        net = UNet(channels=codec.channels, pooled_dim=text.pooled_dim, **network)
    stage = Stage(
        net=net,
        diffusion=diffusion(preset["predicts"], preset["shift"]),
        codec=codec,
        text=text,
        shape=preset["shape"],
        fps=preset["fps"],
        guide=cfg(guidance),
        sampler=ancestral(gamma=0.3),
        steps=steps,
    )

    def phases() -> list[Phase]:
        pools = Pools.open(data, shape=preset["shape"], fps=preset["fps"])
        text.learn_words(pools.captions(1500))
        mix = Mix(
            video=pools.video,
            images=pools.images if images else None,
            images_per_clip=images,
            batch=preset["batch"],
            seed=seed,
        )
        joint = Phase(
            name="joint",
            target=stage,
            data=mix,
            held_out=Mix(video=pools.held_out, batch=64)(0),
            clips=preset["clips"],
            learning_rate=preset["rate"],
            warmup=50 * preset["batch"],
            decay="cosine",
            ema=preset["clips"] // 30,
            prompts=pools.prompts(8),
        )
        return [joint]

    return Plan(system=System(stages={"base": stage}), phases=phases)


def diffusion(predicts: Predicts, shift: float) -> Diffusion:
    """The cosine process of the paper; a clean video is predicted where a position holds many pixels, and weighed as v.

    A folded position has more noise to repeat than a narrow network can carry through, but little video to name.
    """
    weight = like("v", limit=5.0) if predicts == "x0" else one
    return Diffusion(schedule=Cosine(shift=shift), predicts=predicts, draw=stratified, weight=weight, tells="log_snr")
