"""Super-resolution of clips that are there already, of any size and length: tiled in space, windowed in time.

A clip runs through stages that are given a ``LowRes`` video, each a generator over the one before, so that memory holds a
window of frames for each stage whatever the length of the clip.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from noisereel.conditioning import LowRes, resize
from noisereel.nets.tiled import Tiled, ramp
from noisereel.stage import Stage
from noisereel.text.silent import Silent
from noisereel.types import Latent, generators, randn

AGREEING = 2  # rounds of back-projection
Frame = Float[Tensor, "3 h w"]
Window = Float[Tensor, "1 3 _ _ _"]  # some frames of a video of which there are more


@dataclass(frozen=True, kw_only=True, eq=False)
class Enlarger:
    """One stage as it works on a clip: ``window`` of its own frames at once, of which ``shared`` return in the next window."""

    stage: Stage
    window: int
    shared: int
    prompt: str | None
    seed: int

    @classmethod
    def of(
        cls, stage: Stage, *, prompt: str | None = None, seed: int = 0, tile: int | None = None, window: int | None = None
    ) -> Enlarger:
        """The stage made ready.

        Args:
            prompt: what the clip shows, for a stage that heard captions in training.
            seed: of the noise, which is that of a frame wherever windows begin.
            tile: rows and columns of pixels that its network sees at once; those it was trained for by default.
            window: frames that it makes at once; as many as it was trained for by default.

        Raises:
            ValueError: a prompt for a stage that hears none, or a tile or window that it cannot take.
        """
        if prompt is not None and isinstance(stage.text, Silent):
            raise ValueError("this model enlarges without words: leave the prompt out")
        given = lowres(stage)
        multiple, _, _ = stage.legal_multiples()
        asked = window or stage.shape[0]
        frames = asked - (asked - stage.codec.lead) % math.lcm(multiple, given.time)
        if frames < (least := 2 * given.time if given.time > 1 else multiple):
            raise ValueError(f"a window of {asked} frames is too short for this model: use {least} or more")
        # Nothing comes after the last given frame of a window, so what follows it is taken from the next window.
        shared = min(frames // given.time // 2, max(2, frames // given.time // 8)) * given.time
        tiled = replace(stage, net=tiled_net(stage, tile or max(stage.shape[1:])))
        return cls(stage=tiled, window=frames, shared=shared, prompt=prompt, seed=seed)

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Window]:
        """The clip enlarged, piece by piece: ``time`` frames for each one given, ``space`` times as high and wide.

        Raises:
            ValueError: a clip of one frame, between which and the next there should be more.
        """
        time, windows = lowres(self.stage).time, self.windows(frames)
        made = ((start * time, self._enlarged(start, torch.stack(held, dim=1)[None])) for start, held in windows)
        # After the last given frame of a window there are ``time - 1`` frames that should lie before a next one.
        return joined(made, self.shared, max(self.shared // 4, time - 1))

    def windows(self, frames: Iterable[Any]) -> Iterator[tuple[int, list[Any]]]:
        """The given frames as they are worked on, each window with the number of its first."""
        time = lowres(self.stage).time
        return overlapping(frames, self.window // time, self.shared // time)

    def _enlarged(self, start: int, small: Window) -> Window:
        """One window, which begins with given frame number ``start``."""
        stage, given = self.stage, lowres(self.stage)
        frames, height, width = (
            size * by for size, by in zip(small.shape[2:], (given.time, given.space, given.space), strict=True)
        )
        if small.shape[2] == 1 and given.time > 1:
            raise ValueError("a clip of one frame is too short to put others between: leave --time out")
        shape, padded = self._padded(small)
        stage = replace(stage, given=replace(given, size=shape))
        rng = generators(self.seed, [start])
        *_, last = stage.sample([self.prompt], padded, rng, shape=shape, noise=self._noise(start * given.time, shape))
        large = stage.decode(last.x)[:, :, :frames, :height, :width]
        return agreeing(large.cpu(), small, given.time)

    def _padded(self, small: Window) -> tuple[tuple[int, int, int], Window]:
        """The window with edges repeated until the stage can make it, and the shape that it makes of it."""
        given, codec = lowres(self.stage), self.stage.codec
        multiples = self.stage.legal_multiples()
        factors, leads = (given.time, given.space, given.space), (codec.lead, 0, 0)
        steps = [math.lcm(multiple, factor) // factor for multiple, factor in zip(multiples, factors, strict=True)]
        sizes = [
            size + -(size - lead) % step if lead <= size else lead
            for size, step, lead in zip(small.shape[2:], steps, leads, strict=True)
        ]
        more = [size - there for size, there in zip(sizes, small.shape[2:], strict=True)]
        padded = F.pad(small.to(self.stage.device), (0, more[2], 0, more[1], 0, more[0]), mode="replicate")
        frames, height, width = (size * factor for size, factor in zip(sizes, factors, strict=True))
        return (frames, height, width), padded

    def _noise(self, first: int, shape: tuple[int, int, int]) -> Latent:
        """Each frame's own noise, so that windows that share a frame begin with the same."""
        channels, frames, height, width = self.stage.latent_shape(shape)
        numbers = range(first // self.stage.codec.stride[0], first // self.stage.codec.stride[0] + frames)
        return rearrange(randn(generators(self.seed, numbers), channels, height, width), "t c h w -> 1 c t h w")


def agreeing(large: Window, small: Window, time: int) -> Window:
    """The video moved to where ``small`` is what it becomes when it is made small again.

    Frames of the same size are replaced. Else what differs in the small is added, enlarged, to the large, twice: iterative
    back-projection (Irani and Peleg 1991, eq. 2).
    """
    if large.shape[-2:] == small.shape[-2:]:
        large[:, :, ::time] = small
        return large
    seen = large[:, :, ::time]
    for _ in range(AGREEING):
        seen = (seen + resize(small - resize(seen, *small.shape[-2:]), *large.shape[-2:])).clamp(-1, 1)
    large[:, :, ::time] = seen
    return large


def upscale(
    frames: Iterable[Frame],
    stages: Sequence[Stage],
    *,
    prompt: str | None = None,
    seed: int = 0,
    tile: int | None = None,
    window: int | None = None,
) -> Iterator[Float[Tensor, "3 _ _ _"]]:
    """A clip in [-1, 1], frame by frame, run through the stages; yields finished frames, several at a time.

    See ``Enlarger.of`` for the options. ``stages`` may be those that ``chosen`` finds.
    """
    enlargers = [
        Enlarger.of(stage, prompt=prompt, seed=seed + number, tile=tile, window=window) for number, stage in enumerate(stages)
    ]
    pieces: Iterator[Window] = (frame[None, :, None] for frame in frames)
    for enlarge in enlargers:
        pieces = enlarge(frame for piece in pieces for frame in piece[0].unbind(1))
    return (piece[0] for piece in pieces)


def sampling_steps(frames: int, stages: Sequence[Stage], *, window: int | None = None) -> int:
    """How many steps of sampling ``upscale`` takes for a clip of so many frames."""
    steps = 0
    for stage in stages:
        steps += stage.steps * sum(1 for _ in Enlarger.of(stage, window=window).windows(range(frames)))
        frames *= lowres(stage).time
    return steps


def chosen(stages: Mapping[str, Stage], *, time: int, space: int) -> list[Stage]:
    """The stages that together make ``time`` times as many frames and each side ``space`` times as long, time first.

    A stage may be used again; of several ways the shortest is taken.

    Raises:
        ValueError: no stages do; says what these do.
    """
    factors = {
        name: (stage.given.time, stage.given.space)
        for name, stage in stages.items()
        if isinstance(stage.given, LowRes) and stage.given.time * stage.given.space > 1
    }
    if not factors:
        raise ValueError("this model has no stage that enlarges a video: use one that has, such as --model upscaler")
    ways: list[tuple[str, ...]] = [()]
    while ways:
        for way in ways:
            if math.prod(factors[name][0] for name in way) == time and math.prod(factors[name][1] for name in way) == space:
                return sorted((stages[name] for name in way), key=lambda stage: lowres(stage).space > 1)
        longer = ((*way, name) for way in ways for name in factors)
        ways = [
            way
            for way in longer
            if not any(asked % math.prod(factors[name][axis] for name in way) for axis, asked in enumerate((time, space)))
        ]
    there = ", ".join(f"{name!r} (time {by[0]}, space {by[1]})" for name, by in factors.items())
    raise ValueError(f"this model's stages cannot be joined to time {time}, space {space}: they are {there}")


def lowres(stage: Stage) -> LowRes:
    """What the stage is given, a smaller video."""
    assert isinstance(stage.given, LowRes)
    return stage.given


def tiled_net(stage: Stage, tile: int) -> Any:
    """The stage's network, shown tiles of ``tile`` pixels that overlap by a quarter."""
    assert isinstance(stage.net, nn.Module)
    _, stride, _ = stage.codec.stride
    multiple = getattr(stage.net, "multiple", 1)
    positions = tile // stride // multiple * multiple
    if positions < 1:
        raise ValueError(f"tiles of {tile} pixels are too small for this model: use {stride * multiple} or more")
    return Tiled(stage.net, positions, positions // 4 // multiple * multiple)


def overlapping(frames: Iterable[Any], length: int, shared: int) -> Iterator[tuple[int, list[Any]]]:
    """Windows of ``length`` frames, each with the number of its first, ``shared`` of which return in the next.

    The last window is moved back to be as long as the others; a clip that is shorter than one is one window.
    """
    assert 0 <= shared < length
    source, start = iter(frames), 0
    held = list(islice(source, length))
    while len(held) == length:
        fresh = list(islice(source, length - shared))
        if not fresh:
            break
        yield start, held
        start += len(fresh)
        held = [*held, *fresh][-length:]
    if held:
        yield start, held


def joined(windows: Iterable[tuple[int, Window]], shared: int, after: int) -> Iterator[Window]:
    """Windows, each with the number of its first frame, as one video in which each frame is once.

    Over the ``shared`` frames at the end of a window it fades into the next; of its last ``after`` frames nothing is kept, if
    a next one has them.
    """
    tail: Window | None = None
    begun = 0  # the number of the tail's first frame
    for start, video in windows:
        if tail is not None:
            video = video[:, :, begun - start :]
            share = rearrange(ramp(shared, after), "t -> t 1 1").to(video)
            video = torch.cat([tail.lerp(video[:, :, :shared], share), video[:, :, shared:]], dim=2)
            start = begun
        begun = start + video.shape[2] - min(shared, video.shape[2])
        tail = video[:, :, begun - start :]
        if begun > start:
            yield video[:, :, : begun - start]
    if tail is not None and tail.shape[2]:
        yield tail
