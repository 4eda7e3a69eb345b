"""Training at native size: the few shapes that clips of many sizes and lengths fit best, so that little of them is cut off."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from noisereel.data.decode import Probe

Shape = tuple[int, int, int]  # frames, height, width
_TICK = 1e-3  # seconds


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Which shapes a model can take: about as many pixels as ``shape`` has, and no more frames."""

    shape: Shape
    stride: Shape  # what each of them is a multiple of
    lead: int  # frames that come before the first multiple (``Codec.lead``)
    fps: float

    def native(self, facts: Probe) -> Shape | None:
        """The shape that footage would have by itself: its own aspect, and half the frames where it is short, or a quarter, ...

        None where it is too short for any. A still has one frame.
        """
        _, height, width = self.shape
        tall = math.sqrt(height * width * facts.height / facts.width)
        sides = [
            max(1, round(side / step)) * step
            for side, step in ((tall, self.stride[1]), (height * width / tall, self.stride[2]))
        ]
        frames = 1 if facts.frames == 1 else self._frames(facts)
        return (frames, sides[0], sides[1]) if frames else None

    def _frames(self, facts: Probe) -> int:
        there = math.floor((facts.seconds + _TICK) * (self.fps if facts.rated else facts.fps))
        steps = (self.shape[0] - self.lead) // self.stride[0]
        while steps:
            if (frames := self.lead + steps * self.stride[0]) <= there:
                return frames
            steps //= 2
        return 0


def shapes_of(footage: Iterable[Probe], grid: Grid, most: int) -> dict[Shape, int]:
    """The commonest native shapes of videos, at most so many, and how many videos fit each best."""
    films = [facts for facts in footage if facts.frames > 1]
    native = Counter(shape for facts in films if (shape := grid.native(facts)))
    shapes = [shape for shape, _ in sorted(native.items(), key=lambda row: (-row[1], row[0]))[:most]]
    fitting = Counter(shape for facts in films if (shape := best(facts, shapes, grid.fps)))
    return {shape: fitting[shape] for shape in shapes if fitting[shape]}


def best(facts: Probe, shapes: Sequence[Shape], fps: float) -> Shape | None:
    """Of several shapes the one that footage fits: the most frames it has, then the nearest aspect. None if it is too short."""
    there = (facts.seconds + _TICK) * (fps if facts.rated else facts.fps)
    possible = [shape for shape in shapes if shape[0] <= there and (facts.frames > 1 or shape[0] == 1)]
    return min(possible, key=lambda shape: (-shape[0], cut_off(facts, shape)), default=None)


def cut_off(facts: Probe, shape: Shape) -> float:
    """The share of a picture that is cropped to give it the shape's aspect."""
    ratio = (facts.height / facts.width) / (shape[1] / shape[2])
    return 1 - min(ratio, 1 / ratio)
