"""From an order to a way of making its videos: the tuned system, the shape, how it is sampled and written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator

from noisereel.data.reader import probe, read_clip
from noisereel.making.finish import Finish
from noisereel.pipeline import TextToVideo
from noisereel.stage import Stage
from noisereel.system import Moment, System, spread
from noisereel.types import Rng, Video

WATCHABLE = 256  # pixels of the shorter side up to which small videos are enlarged


@dataclass(frozen=True, kw_only=True)
class Order:
    """What somebody wants of videos besides their prompts and seeds; the model's own where not given."""

    negative: str | None = None
    steps: int | None = None
    guidance: float | None = None
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    image: Path | None = None  # what the video begins with
    clip: Path | None = None  # the clip that is gone on from
    extend: int | None = None  # how many frames long
    between: Sequence[Path] | None = None
    fps: float | None = None
    scale: int | None = None
    sheet: bool = False
    transparent: bool = False
    signing: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """A way to make videos from prompts."""

    system: System
    shape: tuple[int, int, int]  # frames, height, width of what is sampled at once
    length: int  # frames of the finished video
    image: Video | None  # what the video begins with
    begun: Video | None  # or the clip that is gone on from
    given: Video | None  # or one clip to fill in between
    every: int  # its frames become every so-many-th of the result
    negative: str | None
    finish: Finish

    def sample(self, prompts: Sequence[str], seeds: Sequence[int], report: Callable[[float], None]) -> dict[str, Video]:
        """One video for each prompt and seed, by every stage; the last is the result. ``report`` is told the share done."""
        videos: dict[str, Video] = {}
        for share, moment in self.moments(prompts, seeds):
            report(share)
            if moment.video is not None:
                videos[moment.stage] = moment.video
        return videos

    def moments(self, prompts: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[float, Moment]]:
        """Every step of sampling with the share that is done after it; the last one's ``video`` is the result."""
        rng = [Generator().manual_seed(seed) for seed in seeds]
        done = 0
        for moment in self._moments(prompts, rng):
            share = (moment.number + (moment.step.index + 1) / moment.step.total) / moment.stages
            yield min(1.0, (done + share) / self.rounds), moment
            done += share == 1

    @property
    def keep(self) -> int:
        """How many frames an extension goes on from."""
        return kept_frames(self.system.first)

    @property
    def known(self) -> bool:
        """Whether some of the frames that are sampled will be given."""
        return any(clip is not None for clip in (self.image, self.begun, self.given)) or self.length > self.shape[0]

    @property
    def rounds(self) -> int:
        """How often the system samples until a video is finished."""
        made = self.system.first.shape[0]
        if self.given is not None:
            return math.ceil((self.given.shape[2] - 1) / ((made - 1) // self.every))
        if len(self.system.stages) > 1:
            return 1
        begun, first = (self.shape[0], 1) if self.begun is None else (self.begun.shape[2], 0)
        return first + max(0, math.ceil((self.length - begun) / (made - self.keep)))

    def _moments(self, prompts: Sequence[str], rng: Rng) -> Iterator[Moment]:
        negative = None if self.negative is None else [self.negative] * len(prompts)
        if self.given is not None:
            given = self.given.expand(len(prompts), -1, -1, -1, -1)
            yield from self.system.between(given, prompts, rng, every=self.every, negative=negative)
            return
        begun = None if self.begun is None else self.begun.expand(len(prompts), -1, -1, -1, -1)
        if begun is not None and len(self.system.stages) > 1:  # the later stages work on it
            yield from self.system.sample(prompts, rng, video=begun, negative=negative)
            return
        if begun is None:
            known = None
            if self.image is not None:
                known = spread(self.image.expand(len(prompts), -1, -1, -1, -1), self.shape[0], every=1)
            for moment in self.system.sample(prompts, rng, shape=self.shape, negative=negative, known=known):
                yield moment
                begun = moment.video
            assert begun is not None
        if begun.shape[2] < self.length:  # a cascade cannot go on, and is long enough
            yield from self.system.extend(begun, prompts, rng, frames=self.length, keep=self.keep, negative=negative)


def prepared(pipe: TextToVideo, prompts: Sequence[str], order: Order) -> Job:
    """The job that makes what the order asks for.

    Raises:
        ValueError: a prompt or a size the model cannot take, a clip or image that cannot be read, too many frames.
    """
    pipe.check_lengths([*prompts, *filter(None, [order.negative])])
    system = pipe.tuned(order.steps, order.guidance)
    made = system.first.shape[0]
    shape = pipe.shape(min(order.extend or made, made) if order.frames is None else order.frames, order.height, order.width)
    if system.first.needs_video and not order.image:
        raise ValueError("this model animates an image: say which with --image first.png")
    image = read_clip(order.image, frames=1, height=shape[1], width=shape[2])[None] if order.image else None
    given, rate = clip(order.between, *shape[1:]) if order.between else (None, None)
    begun = onward(order, system, shape) if order.clip else None
    every = 1 if given is None else spacing(given.shape[2], made)
    device = system.first.device
    return Job(
        system=system,
        shape=shape,
        length=order.extend or shape[0],
        image=None if image is None else image.to(device),
        begun=None if begun is None else begun.to(device),
        given=None if given is None else given.to(device),
        every=every,
        negative=order.negative,
        finish=Finish(
            fps=order.fps or (rate * every if rate else system.last.fps),
            scale=order.scale or (1 if order.sheet else max(1, round(WATCHABLE / min(shape[1:])))),
            sheet=order.sheet,
            transparent=order.transparent,
            signing=order.signing,
        ),
    )


def onward(order: Order, system: System, shape: tuple[int, int, int]) -> Video:
    """The clip to go on from; for a cascade as much of it as takes the place of what its first stage makes.

    Raises:
        ValueError: a clip that is as long as the order already, or too short for a cascade.
    """
    assert order.clip is not None
    frames = shape[0] if len(system.stages) > 1 else None
    clip = read_clip(order.clip, frames=frames, height=shape[1], width=shape[2], fps=system.first.fps)[None]
    if frames is None and clip.shape[2] >= (order.extend or 0):
        raise ValueError(f"the clip has {clip.shape[2]} frames already: --extend takes more, not {order.extend}")
    return clip


def kept_frames(stage: Stage) -> int:
    """How many frames an extension goes on from: half of what is made at once, in whole frames of the latents."""
    lead, stride = stage.codec.lead, stage.codec.stride[0]
    return max(lead + (stage.shape[0] // 2 - lead) // stride * stride, lead or stride)


def clip(paths: Sequence[Path], height: int, width: int) -> tuple[Video, float | None]:
    """The frames of clips and images in a row, and the frame rate of the first that moves.

    Raises:
        ValueError: a file that cannot be read, or a single frame.
    """
    moving = [facts.fps for facts in map(probe, paths) if facts.frames > 1]
    frames = torch.cat([read_clip(path, height=height, width=width) for path in paths], dim=1)
    if frames.shape[1] < 2:
        raise ValueError(f"{paths[0]} is a single frame: give a clip, or --between again with the image that comes last")
    return frames[None], moving[0] if moving else None


def spacing(given: int, made: int) -> int:
    """How far apart the given frames come to lie: spread over what the model makes at once, or with one new frame between.

    Raises:
        ValueError: a model that makes fewer than three frames at once.
    """
    if made < 3:
        raise ValueError(f"this model makes {made} frames at once: filling in between two takes at least 3")
    return max(2, (made - 1) // (given - 1))
