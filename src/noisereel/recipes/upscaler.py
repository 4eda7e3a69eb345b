"""An upscaler: super-resolution in time and in space that belongs to no system (Ho et al. 2022, arXiv 2210.02303, section 2.3).

What ``noisereel upscale`` runs on any clip. A stage sees a small video, enlarged, and answers the large one.
"""

from __future__ import annotations

from typing import Any, Literal

from noisereel.codecs.pixels import Pixels
from noisereel.conditioning import LowRes
from noisereel.data.crops import cropped
from noisereel.data.mix import Mix, blended
from noisereel.diffusion.process import Diffusion
from noisereel.diffusion.samplers import ddim
from noisereel.diffusion.schedules import Cosine
from noisereel.diffusion.times import often_all_noise
from noisereel.nets.residual import HintSkip
from noisereel.nets.unet import UNet
from noisereel.recipes.plan import Plan, initialised, paced, sized
from noisereel.stage import Stage
from noisereel.system import System
from noisereel.text.silent import Silent
from noisereel.trainer import Phase
from noisereel.worlds.pools import Pools

Size = Literal["tiny", "small", "base"]
FPS, SECONDS = 16.0, 1.0  # of the clips that are learned from
TRIES = 4  # parts of a clip, of which the liveliest is learned from

# For each size: the network; for time and for space the shape that a stage works on at once (frames, height, width), that of
# the clips it learns from, of the larger ones they are cut from in turn, and how many are seen; the pace. There is no
# attention, so what a position sees does not depend on the size of the video.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": dict(
        net=dict(width=16, multipliers=(1, 2), depth=1, norm_groups=8),
        time=dict(shape=(4, 16, 16), clip=(4, 16, 16), views=((8, 16, 16),), clips=128),
        space=dict(shape=(4, 16, 16), clip=(2, 16, 16), views=((2, 32, 32),), clips=128),
        batch=4, rate=2e-3,
    ),
    "small": dict(
        net=dict(width=48, multipliers=(1, 2), depth=1, norm_groups=8, embed_width=96),
        time=dict(shape=(16, 64, 64), clip=(8, 32, 32), views=((16, 64, 64), (8, 128, 128)), clips=18_000),
        space=dict(shape=(16, 64, 64), clip=(2, 64, 64), views=((2, 64, 64), (2, 128, 128)), clips=18_000),
        batch=6, rate=1.5e-3,
    ),
    "base": dict(
        net=dict(width=128, multipliers=(1, 2, 3), depth=2),
        time=dict(shape=(16, 128, 128), clip=(16, 64, 64), views=((16, 128, 128), (16, 256, 256)), clips=1_000_000),
        space=dict(shape=(16, 128, 128), clip=(8, 128, 128), views=((8, 128, 128), (8, 256, 256)), clips=1_000_000),
        batch=64, rate=5e-4,
    ),
}  # fmt: skip


def upscaler(
    size: Size = "small",
    data: str = "shapes",
    space: int = 4,
    time: int = 2,
    steps: int = 1,
    clips: int = 0,
    batch: int = 0,
    rate: float = 0.0,
    seed: int = 0,
) -> Plan:
    """Two stages for clips that are there already: one makes more frames of them, one makes frames larger.

    Args:
        size: tiny (seconds, for tests), small (twenty minutes of a CPU core that computes in bf16), or base (an accelerator).
        data: what to train on, see ``noisereel.worlds.pools``.
        space: how many times higher and wider the second stage makes a video; 1 leaves it out.
        time: how many times as many frames the first stage makes; 1 leaves it out.
        steps: sampling steps. One gives the mean of what is likely, which no other answer is nearer to; more give it detail.
        clips: how many clips training of each stage sees; 0 is the size's own number.
        batch: clips at a time; 0 is the size's own number.
        rate: learning rate; 0 is the size's own.
        seed: of the initial weights and of the order of the data.
    """
    preset = sized(SIZES, size, batch=batch, rate=rate)
    if time < 1 or space < 1 or time * space == 1:
        raise ValueError(f"an upscaler of time={time} and space={space} enlarges nothing: make one of them 2 or more")
    factors = {"time": dict(time=time), "space": dict(space=space)}
    wanted = {name: factor for name, factor in factors.items() if max(factor.values()) > 1}
    with initialised(seed):
        stages = {name: stage(preset[name]["shape"], factor, preset["net"], steps) for name, factor in wanted.items()}

    def phases() -> list[Phase]:
        own = {name: preset[name] | (dict(clips=clips) if clips else {}) for name in stages}
        return [phase(name, stages[name], own[name], preset, data, seed) for name in stages]

    return Plan(system=System(stages=stages), phases=phases)


def stage(shape: tuple[int, int, int], factor: dict[str, int], network: dict[str, Any], steps: int) -> Stage:
    """A stage that enlarges by a factor of time or of space."""
    codec = Pixels(patch=4)
    given = LowRes(size=shape, codec=codec, blend=True, time=factor.get("time", 1), space=factor.get("space", 1))
    options = dict(temporal_conv="residual", temporal_attention="none", attention=[False] * len(network["multipliers"]))
    net: Any = HintSkip(UNet(channels=codec.channels, hint_channels=given.channels, **options, **network))
    return Stage(
        net=net,
        diffusion=Diffusion(schedule=Cosine(shift=-6.0), predicts="x0", draw=often_all_noise, tells="log_snr"),
        codec=codec,
        text=Silent(),
        shape=shape,
        fps=FPS,
        given=given,
        sampler=ddim(),
        steps=steps,
    )


def phase(name: str, stage: Stage, own: dict[str, Any], preset: dict[str, Any], data: str, seed: int) -> Phase:
    """Training of one stage on parts of clips."""
    opened = [Pools.open(data, shape=view, fps=FPS, seconds=SECONDS) for view in own["views"]]
    video, held_out = (
        blended([cropped(getattr(pools, kind), own["clip"], TRIES) for pools in opened], [1.0] * len(opened))
        for kind in ("video", "held_out")
    )
    return Phase(
        name=name,
        target=stage,
        data=Mix(video=video, batch=preset["batch"], seed=seed),
        held_out=Mix(video=held_out, batch=64)(0),
        learning_rate=preset["rate"],
        decay="cosine",
        **paced(own["clips"], preset["batch"]),
    )
