"""The emoji world: one of Noto's drawings moves over a plain ground.

Positions and sizes are in pictures: the shorter side of the picture is 1, ``x`` points right and ``y`` down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import product
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional

from noisereel.data.clips import Clip, Pool
from noisereel.worlds.dice import dice, held_out
from noisereel.worlds.emoji_words import BRIEF, IMAGE, NOUNS, VIDEO, Noun, spoken
from noisereel.worlds.world import GROUNDS, Split, World

Times = Float[np.ndarray, "t"]
Pose = Float[np.ndarray, "5 t"]  # x and y from the start, angle (clockwise), width and height as shares of the drawing's

SOURCE = "clone github.com/googlefonts/noto-emoji at 41e31b11"
_SIZES = (0.36, 0.6)  # of the drawing's square
_LEVELS = (72, 51, 36, 25, 18, 12)  # pixels; each drawing is stored smoothed to these sizes
_BRIEF_ONE_IN = 6


def _pose(
    u: Times, x: Times | float = 0.0, y: Times | float = 0.0, angle: Times | float = 0.0, width: Times | float = 1.0
) -> Pose:
    return np.stack([np.broadcast_to(part, u.shape) for part in (x, y, angle, width, np.ones_like(u))])


def _scaled(u: Times, scale: Times) -> Pose:
    return np.stack([0 * u, 0 * u, 0 * u, scale, scale])


def _bounce(u: Times, much: float) -> Pose:
    flight = (2 * u + 0.5) % 1  # two flights; 0 and 1 on the floor, 1/2 at the top
    return _pose(u, y=much * (2 * flight - 1) ** 2)


def _swing(u: Times, much: float) -> Pose:
    """A pendulum that hangs from a point above the drawing."""
    angle = much * np.cos(3 * np.pi * u)
    return _pose(u, x=-0.25 * np.sin(angle), y=0.25 * (np.cos(angle) - 1), angle=angle)


@dataclass(frozen=True)
class Motion:
    """A law: the pose at each ``u`` from 0 to 1 over the scene, for how much of it there is."""

    law: Callable[[Times, float], Pose]
    least: float
    most: float


MOTIONS = {
    "left": Motion(lambda u, much: _pose(u, x=-much * u), 0.35, 0.6),
    "right": Motion(lambda u, much: _pose(u, x=much * u), 0.35, 0.6),
    "up": Motion(lambda u, much: _pose(u, y=-much * u, x=0.03 * np.sin(4 * np.pi * u)), 0.35, 0.6),
    "down": Motion(lambda u, much: _pose(u, y=much * u**2), 0.35, 0.6),
    "clockwise": Motion(lambda u, much: _pose(u, angle=2 * np.pi * much * u), 0.75, 1.25),
    "counterclockwise": Motion(lambda u, much: _pose(u, angle=-2 * np.pi * much * u), 0.75, 1.25),
    "grows": Motion(lambda u, much: _scaled(u, 1 - much * (1 - u)), 0.5, 0.65),
    "shrinks": Motion(lambda u, much: _scaled(u, 1 - much * u), 0.5, 0.65),
    "bounces": Motion(_bounce, 0.2, 0.4),
    "shakes": Motion(lambda u, much: _pose(u, x=much * np.sin(10 * np.pi * u)), 0.025, 0.05),
    "swings": Motion(_swing, 0.45, 0.8),
    "flips": Motion(lambda u, much: _pose(u, width=np.cos(2 * np.pi * much * u)), 1.0, 1.5),
}


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The truth about a clip: what its captions speak of, and the numbers of its motion."""

    noun: Noun
    motion: str
    ground: str
    start: tuple[float, float]
    size: float
    much: float
    seconds: float

    def pose(self, times: Times) -> Pose:
        """Where and how the drawing lies at ``times`` in seconds; x and y are those of its centre, in the picture."""
        pose = MOTIONS[self.motion].law(times / self.seconds, self.much)
        return pose + np.array([*self.start, 0, 0, 0])[:, None]


@cache
def nouns(pool: Pool) -> tuple[Noun, ...]:
    """What a pool shows: images everything, of which a fifth appears nowhere else and a fifth in unlabelled video."""
    order = dice("emoji nouns", 0).permutation(len(NOUNS))
    fifth = len(NOUNS) // 5
    chosen = {"captioned_image": order, "unlabelled_video": order[fifth : 2 * fifth], "captioned_video": order[2 * fifth :]}[
        pool
    ]
    return tuple(NOUNS[i] for i in sorted(chosen))


@cache
def combinations(split: Split, pool: Pool) -> list[tuple[Noun, str, str]]:
    """The (noun, motion, ground) that a split of a pool shows."""
    every = product(nouns(pool), MOTIONS, GROUNDS)
    return [values for values in every if held_out(values[0].name, *values[1:]) == (split == "held_out")]


def scene(index: int, split: Split, pool: Pool = "captioned_video", seconds: float = 1.0) -> Scene:
    """Scene number ``index``; its drawing stays in the picture."""
    rng = dice(f"emoji {split} {pool}", index)
    choices = combinations(split, pool)
    noun, motion, ground = choices[rng.integers(len(choices))]
    size, much = rng.uniform(*_SIZES), rng.uniform(MOTIONS[motion].least, MOTIONS[motion].most)
    x, y, *_ = MOTIONS[motion].law(np.linspace(0, 1, 33), much)
    start = tuple(_place(offset, size / 2, rng) for offset in (x, y))
    return Scene(noun=noun, motion=motion, ground=ground, start=start, size=size, much=much, seconds=seconds)  # type: ignore[arg-type]


def _place(offset: Times, reach: float, rng: np.random.Generator) -> float:
    """A start from which the whole path stays in the picture, or overshoots alike at both ends where there is no room."""
    least, most = reach - offset.min(), 1 - reach - offset.max()
    return float(rng.uniform(least, most) if least < most else (least + most) / 2)


@dataclass(frozen=True, kw_only=True)
class Emoji(World):
    """Clips of the emoji world, without end, from a checkout of Noto Emoji (or a folder of its drawings, ``png72``)."""

    root: str | Path

    def __post_init__(self) -> None:
        super().__post_init__()
        missing = [noun.file for noun in NOUNS if not (self.folder / noun.file).is_file()]
        if missing:
            raise ValueError(
                f"{self.folder} lacks {len(missing)} of {len(NOUNS)} drawings, such as {missing[0]}: {SOURCE}, pass its folder"
            )

    @cached_property
    def folder(self) -> Path:
        """Where the drawings are."""
        flat = Path(self.root) / "png72"
        return flat if flat.is_dir() else Path(self.root) / "png" / "72"

    def __getitem__(self, index: int) -> Clip:
        truth = scene(index, self.split, self.pool, self.seconds)
        rng = dice(f"emoji {self.pool} caption", index)
        values = spoken(truth.noun, truth.ground, truth.motion)
        if self.pool == "captioned_image":
            image = self._render(truth, np.zeros(1))
            return Clip(video=image, caption=IMAGE.phrase(rng, values), fps=self.fps)
        video = self._render(truth, np.arange(self.frames) / self.fps)
        if self.pool == "unlabelled_video":
            return Clip(video=video, caption=None, fps=self.fps)
        language = BRIEF if rng.integers(_BRIEF_ONE_IN) == 0 else VIDEO
        return Clip(video=video, caption=language.phrase(rng, values), fps=self.fps)

    def _render(self, truth: Scene, times: Times) -> Float[Tensor, "3 t h w"]:
        drawing = _drawing(self.folder / truth.noun.file)
        return render(drawing, truth.pose(times), truth.size, GROUNDS[truth.ground], self.height, self.width)


@lru_cache(maxsize=len(NOUNS))
def _drawing(path: Path) -> list[Tensor]:
    """A drawing in premultiplied RGBA, 0 .. 255, smoothed to each of the stored sizes."""
    with Image.open(path) as image:
        premultiplied = image.convert("RGBA").convert("RGBa")
    sizes = [premultiplied.resize((level, level), Image.Resampling.BOX) for level in _LEVELS]
    return [rearrange(torch.from_numpy(np.asarray(size).copy()), "h w c -> c h w") for size in sizes]


def render(
    drawing: list[Tensor], pose: Pose, size: float, ground: tuple[int, int, int], height: int, width: int
) -> Float[Tensor, "3 t {height} {width}"]:
    """The drawing over a plain ground, in [-1, 1]: one affine warp a frame, from the drawing's level nearest in size."""
    scale = min(height, width)
    pixels = size * scale * np.abs(pose[3:]).max(axis=0)
    levels = [max(i for i, level in enumerate(_LEVELS) if level >= wanted or i == 0) for wanted in pixels]
    grid = functional.affine_grid(
        torch.from_numpy(_inverse(pose, size, height / scale, width / scale)),
        [len(levels), 4, height, width],
        align_corners=False,
    )
    layer = torch.empty(len(levels), 4, height, width)
    for level in set(levels):
        chosen = [i for i, each in enumerate(levels) if each == level]
        source = drawing[level].float().expand(len(chosen), -1, -1, -1)
        layer[chosen] = functional.grid_sample(source, grid[chosen], align_corners=False)
    colour, alpha = layer.split([3, 1], dim=1)
    pixel = torch.tensor(ground, dtype=torch.float32)[:, None, None]
    video = (colour + pixel * (1 - alpha / 255)) / 127.5 - 1
    return rearrange(video, "t c h w -> c t h w").clamp(-1, 1)


def _inverse(pose: Pose, size: float, tall: float, wide: float) -> Float[np.ndarray, "t 2 3"]:
    """From a pixel of the picture to one of the drawing, both in [-1, 1]; the picture is ``wide`` by ``tall`` pictures."""
    x, y, angle, across, down = pose
    # A drawing seen edge on has no inverse; one pixel in 25 of its width is left.
    across = np.where(np.abs(across) < 0.04, 0.04, across) * size / 2
    down = down * size / 2
    cosine, sine = np.cos(angle), np.sin(angle)
    rows = np.stack([np.stack([cosine, sine]) / across, np.stack([-sine, cosine]) / down])  # 2 2 t
    offset = np.einsum("rct,ct->rt", rows, np.stack([0.5 - x, 0.5 - y]))
    linear = rows * np.array([wide / 2, tall / 2])[None, :, None]
    return rearrange(np.concatenate([linear, offset[:, None]], axis=1), "r c t -> t r c").astype(np.float32)
