"""What every video of one ``generate`` call has in common: the tuned system, the shape, how it is sampled and written."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator

from noisereel.cli.finish import Finish
from noisereel.data.reader import probe, read_clip
from noisereel.pipeline import TextToVideo
from noisereel.system import Moment, System, spread
from noisereel.types import Rng, Video

WATCHABLE = 256  # pixels of the shorter side up to which small videos are enlarged


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """A way to make videos from prompts."""

    system: System
    shape: tuple[int, int, int]  # frames, height, width of what is sampled at once
    length: int  # frames of the finished video
    image: Video | None  # what the video begins with
    given: Video | None  # one clip to fill in between
    every: int  # its frames become every so-many-th of the result
    negative: str | None
    finish: Finish

    def sample(self, prompts: Sequence[str], seed: int, report: Callable[[float], None]) -> Video:
        """One video for each prompt, video i from seed ``seed + i``; ``report`` is told the share that is done."""
        rng = [Generator().manual_seed(seed + i) for i in range(len(prompts))]
        done, moment = 0, None
        for moment in self._moments(prompts, rng):
            share = (moment.number + (moment.step.index + 1) / moment.step.total) / moment.stages
            report(min(1.0, (done + share) / self.rounds))
            done += share == 1
        assert moment is not None
        assert moment.video is not None
        return moment.video

    @property
    def keep(self) -> int:
        """How many frames an extension goes on from: half of what the model makes at once, in whole frames of its latents."""
        codec = self.system.first.codec
        lead, stride = codec.lead, codec.stride[0]
        return max(lead + (self.system.first.shape[0] // 2 - lead) // stride * stride, lead or stride)

    @property
    def known(self) -> bool:
        """Whether some of the frames that are sampled will be given."""
        return self.image is not None or self.given is not None or self.length > self.shape[0]

    @property
    def rounds(self) -> int:
        """How often the system samples until a video is finished."""
        made = self.system.first.shape[0]
        if self.given is not None:
            return math.ceil((self.given.shape[2] - 1) / ((made - 1) // self.every))
        return 1 + max(0, math.ceil((self.length - self.shape[0]) / (made - self.keep)))

    def _moments(self, prompts: Sequence[str], rng: Rng) -> Iterator[Moment]:
        negative = None if self.negative is None else [self.negative] * len(prompts)
        if self.given is not None:
            given = self.given.expand(len(prompts), -1, -1, -1, -1)
            yield from self.system.between(given, prompts, rng, every=self.every, negative=negative)
            return
        known = None
        if self.image is not None:
            known = spread(self.image.expand(len(prompts), -1, -1, -1, -1), self.shape[0], every=1)
        moment = None
        for moment in self.system.sample(prompts, rng, shape=self.shape, negative=negative, known=known):
            yield moment
        assert moment is not None
        assert moment.video is not None
        yield from self.system.extend(moment.video, prompts, rng, frames=self.length, keep=self.keep, negative=negative)


def prepared(pipe: TextToVideo, options: Namespace) -> Job:
    """The job that the options ask for.

    Raises:
        ValueError: a prompt or a size the model cannot take, a clip or image that cannot be read, too many frames.
    """
    pipe.check_lengths([*options.prompt, *filter(None, [options.negative])])
    system = pipe.tuned(options.steps, options.guidance)
    made = system.first.shape[0]
    shape = pipe.shape(
        min(options.extend or made, made) if options.frames is None else options.frames, options.height, options.width
    )
    if system.first.needs_video and not options.image:
        raise ValueError("this model animates an image: say which with --image first.png")
    image = read_clip(options.image, frames=1, height=shape[1], width=shape[2])[None] if options.image else None
    given, rate = clip(options.between, *shape[1:]) if options.between else (None, None)
    every = 1 if given is None else spacing(given.shape[2], made)
    device = system.first.device
    return Job(
        system=system,
        shape=shape,
        length=options.extend or shape[0],
        image=None if image is None else image.to(device),
        given=None if given is None else given.to(device),
        every=every,
        negative=options.negative,
        finish=Finish(
            fps=options.fps or (rate * every if rate else system.last.fps),
            scale=options.scale or (1 if options.sheet else max(1, round(WATCHABLE / min(shape[1:])))),
            sheet=options.sheet,
            transparent=options.transparent,
        ),
    )


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
