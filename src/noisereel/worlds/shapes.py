"""The shapes world: one flat shape moves by a law in closed form, and everything about it is known.

A scene is drawn from an integer and holds the whole truth; it renders, antialiased, at any size and frame rate. The shorter
side of the picture measures 1, and what happens stays within the central square.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import ceil
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from noisereel.data.clips import Clip, Pool
from noisereel.worlds.captions import Language
from noisereel.worlds.dice import dice, held_out
from noisereel.worlds.motions import LAWS, Law, Times
from noisereel.worlds.outlines import OUTLINES, Outline, coverage
from noisereel.worlds.shapes_words import BRIEF, IMAGE, PROMPTS, VIDEO, Wording
from noisereel.worlds.world import GROUNDS as ALL_GROUNDS
from noisereel.worlds.world import Split, World

Part = Literal["small", "full"]

COLOURS = {  # sRGB, 0 .. 255
    "red": (220, 35, 40),
    "orange": (250, 135, 20),
    "yellow": (250, 225, 50),
    "green": (35, 165, 65),
    "blue": (45, 85, 230),
    "purple": (150, 55, 200),
    "cyan": (60, 210, 225),
    "pink": (255, 140, 195),
}
GROUNDS = {name: ALL_GROUNDS[name] for name in ("black", "white", "grey", "navy", "beige")}
RADII = {"small": (0.125, 0.14), "large": (0.20, 0.22)}  # of the circle of equal area, when the clip begins
UNCAPTIONED_SHAPES = ("pentagon", "hexagon", "frame")  # shown by unlabelled video only
_WHOLE = np.linspace(0, 1, 33)  # the scene from beginning to end
_MARGIN = 0.03  # kept free at the border
_BRIEF_ONE_IN = 6


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The attribute values of a part of the world."""

    shape: tuple[str, ...]
    colour: tuple[str, ...]
    size: tuple[str, ...]
    ground: tuple[str, ...]
    motion: tuple[str, ...]


PARTS: dict[Part, Vocabulary] = {
    "small": Vocabulary(
        shape=("circle", "square", "triangle", "ring"),
        colour=("red", "orange", "yellow", "green", "blue", "purple"),
        size=tuple(RADII),
        ground=("black", "white", "grey"),
        motion=("left", "right", "up", "down", "grows", "still"),
    ),
    "full": Vocabulary(
        shape=tuple(shape for shape in OUTLINES if shape not in UNCAPTIONED_SHAPES),
        colour=tuple(COLOURS),
        size=tuple(RADII),
        ground=tuple(GROUNDS),
        motion=tuple(LAWS),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The truth about a clip: the attributes that captions speak of, and the numbers of its motion (see ``motions``)."""

    shape: str
    colour: str
    size: str
    ground: str
    motion: str
    start: tuple[float, float, float]  # x, y, radius
    coefficients: tuple[float, ...]
    rate: float
    seconds: float  # how long the shape stays in the picture

    def state(self, times: Times) -> Float[np.ndarray, "3 t"]:
        """``(x, y, radius)`` at ``times`` in seconds."""
        basis = LAWS[self.motion].basis(times / self.seconds, self.rate)
        return np.array(self.start)[:, None] + np.einsum("k,kst->st", self.coefficients, basis)


@cache
def combinations(part: Part, split: Split, pool: Pool) -> list[tuple[str, str, str, str, str]]:
    """The (shape, colour, size, ground, motion) that a split of a pool shows; what is held out is so in both parts."""
    words = PARTS[part]
    shapes = UNCAPTIONED_SHAPES if pool == "unlabelled_video" else words.shape
    every = product(shapes, words.colour, words.size, words.ground, words.motion)
    return [values for values in every if held_out(*values) == (split == "held_out")]


def scene(index: int, part: Part, split: Split, pool: Pool = "captioned_video", seconds: float = 1.0) -> Scene:
    """Scene number ``index``, which stays in the picture for ``seconds``."""
    rng = dice(f"shapes {part} {split} {pool}", index)
    choices = combinations(part, split, pool)
    shape, colour, size, ground, motion = choices[rng.integers(len(choices))]
    law, outline = LAWS[motion], OUTLINES[shape]
    radius = rng.uniform(*RADII[size])
    rate = rng.uniform(*law.rates)
    coefficients = _coefficients(law, outline, radius, rng)
    offsets = np.einsum("k,kst->st", coefficients, law.basis(_WHOLE, rate))
    x, y = _place(offsets, outline, radius, rng)
    return Scene(
        shape=shape,
        colour=colour,
        size=size,
        ground=ground,
        motion=motion,
        start=(x, y, radius),
        coefficients=coefficients,
        rate=rate,
        seconds=seconds,
    )


def _coefficients(law: Law, outline: Outline, radius: float, rng: np.random.Generator) -> tuple[float, ...]:
    """How far the law goes: something between its least and most, as far as there is room."""
    if law.resizes:
        # A shape that grows ends within the picture; what shrinks ends smaller than it began.
        most = min(law.amplitude[1], (1 - 2 * _MARGIN) / (radius * max(2 * outline.side, outline.up + outline.down)) - 1.001)
        most = most if law.basis(_WHOLE[-1:], 1.0).sum() > 0 else law.amplitude[1]
        return (radius * rng.uniform(min(law.amplitude[0], most), most),)
    if law.amplitude[1] == 0:
        return ()
    room = 1 - 2 * _MARGIN - radius * np.array([2 * outline.side, outline.up + outline.down])
    most = min(law.amplitude[1], *(free / reach for free, reach in zip(room, law.reach, strict=True) if reach))
    amplitude = rng.uniform(min(law.amplitude[0], most), most)
    if max(law.reach) < 2:
        return (amplitude,)
    phase = rng.uniform(0, 2 * np.pi)
    return (amplitude * np.cos(phase), amplitude * np.sin(phase))


def _place(offsets: Float[np.ndarray, "3 t"], outline: Outline, radius: float, rng: np.random.Generator) -> list[float]:
    """A start from which the whole path, shape included, stays in the picture."""
    radii = radius + offsets[2]
    reach = ((outline.side, outline.side), (outline.up, outline.down))
    place = []
    for offset, (before, after) in zip(offsets[:2], reach, strict=True):
        least, most = _MARGIN - (offset - before * radii).min(), 1 - _MARGIN - (offset + after * radii).max()
        assert least < most, "the law's amplitude leaves no room"
        place.append(float(rng.uniform(least, most)))
    return place


def render(scene: Scene, frames: int, height: int, width: int, fps: float, begin: float = 0.0) -> Float[Tensor, "3 t h w"]:
    """The scene's frames from ``begin`` seconds on, in [-1, 1]."""
    times = begin + np.arange(frames) / fps
    if times[-1] > scene.seconds:
        raise ValueError(f"the scene lasts {scene.seconds:g} s; frame {frames - 1} at {fps:g} fps would be at {times[-1]:g} s")
    x, y, radius = scene.state(times)
    scale = min(height, width)
    x, y, radius = x * scale + (width - scale) / 2, y * scale + (height - scale) / 2, radius * scale
    ground, colour = pixel(GROUNDS[scene.ground]), pixel(COLOURS[scene.colour])
    video = np.full((3, frames, height, width), ground[:, None, None, None])
    top, left, cover = patches(OUTLINES[scene.shape], x, y, radius, (height, width))
    paint = cover * (colour - ground)[:, None, None, None]
    for frame, (i, j) in enumerate(zip(top, left, strict=True)):
        video[:, frame, i : i + cover.shape[1], j : j + cover.shape[2]] += paint[:, frame]
    return torch.from_numpy(video)


def patches(
    outline: Outline, x: np.ndarray, y: np.ndarray, radius: np.ndarray, size: tuple[int, int]
) -> tuple[list[int], list[int], Float[np.ndarray, "t p q"]]:
    """The shape's coverage in a window around it, and the windows' top left corners: most of a frame is ground."""
    reach = radius.max() * max(outline.side, outline.up, outline.down)
    window = min(2 * ceil(reach + 1) + 1, *size)
    top = np.clip(np.rint(y - window / 2).astype(int), 0, size[0] - window)
    left = np.clip(np.rint(x - window / 2).astype(int), 0, size[1] - window)
    centres = np.arange(window) + 0.5
    columns = (left[:, None] + centres - x[:, None]).astype(np.float32)
    rows = (top[:, None] + centres - y[:, None]).astype(np.float32)
    cover = coverage(outline, columns[:, None, :], rows[:, :, None], radius[:, None, None].astype(np.float32))
    return top.tolist(), left.tolist(), cover


def pixel(colour: tuple[int, int, int]) -> Float[np.ndarray, " 3"]:
    return np.array(colour, np.float32) / 127.5 - 1


def describe(scene: Scene, language: Language, rng: np.random.Generator) -> str:
    """A caption for the scene."""
    return language.phrase(rng, spoken(scene))


def spoken(scene: Scene) -> dict[str, str]:
    """What the slots of a caption hold for the scene."""
    return {
        "shape": scene.shape,
        "colour": scene.colour,
        "size": scene.size,
        "ground": scene.ground,
        "motion": scene.motion,
        "moving": scene.motion,
    }


@dataclass(frozen=True, kw_only=True)
class Shapes(World):
    """Clips of the shapes world, without end."""

    part: Part = "full"

    def __getitem__(self, index: int) -> Clip:
        truth = scene(index, self.part, self.split, self.pool, self.seconds)
        rng = dice(f"shapes {self.pool} caption", index)
        if self.pool == "captioned_image":
            # A shape that changes its size has the size that its caption says when the clip begins.
            begin = 0.0 if LAWS[truth.motion].resizes else rng.uniform(0, self.seconds)
            image = render(truth, 1, self.height, self.width, self.fps, begin)
            return Clip(video=image, caption=describe(truth, IMAGE, rng), fps=self.fps)
        video = render(truth, self.frames, self.height, self.width, self.fps)
        if self.pool == "unlabelled_video":
            return Clip(video=video, caption=None, fps=self.fps)
        language = BRIEF if rng.integers(_BRIEF_ONE_IN) == 0 else VIDEO
        return Clip(video=video, caption=describe(truth, language, rng), fps=self.fps)

    def captions(self, count: int, split: Split = "held_out", wording: Wording = "seen") -> Sequence[tuple[str, Scene]]:
        """Prompts that name every attribute, with their truth, for evaluation."""
        scenes = [scene(index, self.part, split, seconds=self.seconds) for index in range(count)]
        language = PROMPTS[wording]
        return [(describe(truth, language, dice(f"shapes prompt {wording}", i)), truth) for i, truth in enumerate(scenes)]
