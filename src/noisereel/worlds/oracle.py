"""The oracle of the shapes world: reads a clip's attributes and trajectory back from its pixels.

It is built to be hard to please: a value is read only where the pixels bear it out in every frame, the motion only where
one law explains the whole trajectory, and otherwise the answer is ``None``, which no truth agrees with. Clips must show the
scene from its beginning to nearly its end; an earlier stop can make one law look like another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import sqrt

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from noisereel.worlds.motions import LAWS, Basis, Law
from noisereel.worlds.outlines import OUTLINES
from noisereel.worlds.shapes import COLOURS, GROUNDS, PARTS, RADII, Part, Scene, patches, pixel

ATTRIBUTES = ("shape", "colour", "size", "ground", "motion")

_COLOUR_TOLERANCE = 0.12  # in OKLab, where black and white are 1 apart
_LEAST_CONTRAST = 0.3  # between object and ground, in [-1, 1] RGB; the faintest pair of the palette has 0.6
_LEAST_LIKENESS = 0.7  # mean intersection over union with the rendered outline
_LEAST_EVER = 0.6  # the same in the worst frame
_LEAST_AGREEMENT = 0.75  # share of frames that look most like the outline that was read
_MOST_RESIDUAL = 0.015  # of the trajectory, in pictures: half a pixel at 32 x 32
_LEAST_AMPLITUDE = 0.5  # of the least that the law has in a scene
_RADIUS_BOUNDS = 0.8, 1.2  # how far below the smallest and above the largest radius a size is still read
_LEAST_AREA = 0.25 * np.pi * (RADII["small"][0] * (1 - LAWS["shrinks"].amplitude[1])) ** 2  # a quarter of any scene's least
_RATES = 13  # tried for each law that turns


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the oracle saw; an attribute is ``None`` where the pixels do not bear any value out."""

    shape: str | None = None
    colour: str | None = None
    size: str | None = None
    ground: str | None = None
    motion: str | None = None
    trajectory: Float[np.ndarray, "3 t"] | None = None  # x, y, radius in pictures; None if the object is ever missing
    colours: Float[np.ndarray, "t 3"] | None = None  # of the object in each frame, in [-1, 1]; None as above
    residuals: Mapping[str, float]  # root mean square, in pictures, for each law that could be
    likeness: Mapping[str, float]  # intersection over union with each outline


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share of clips with its Wilson 95 % interval."""

    rate: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class _Object:
    """The object: its colour in each frame, and how much of each pixel it covers."""

    colours: Float[np.ndarray, "t 3"]
    cover: Float[np.ndarray, "t h w"]  # about 0 to 1; exactly 0 away from the object


def read(video: Float[Tensor, "3 t h w"], fps: float, part: Part = "full", seconds: float = 1.0) -> Reading:
    """What a clip in [-1, 1] of a scene of ``seconds`` shows, in the words of ``part``; motions are told from all laws.

    A clip has at least 4 frames of 24 x 24 pixels.
    """
    frames, height, width = video.shape[1:]
    if frames < 4 or min(height, width) < 24:
        raise ValueError(f"the oracle needs at least 4 frames of 24 x 24, got {frames} of {height} x {width}")
    words = PARTS[part]
    video = video.detach().float().cpu()
    grounds = _border(video)
    ground = _same_in_all(grounds, {name: GROUNDS[name] for name in words.ground})
    seen = _segment(video, grounds)
    trajectory = None if seen is None else _trajectory(seen.cover)
    if seen is None or trajectory is None:
        return Reading(ground=ground, residuals={}, likeness={})
    pixels = _to_pixels(trajectory, height, width)
    likeness = {shape: _likeness(seen.cover, shape, pixels) for shape in words.shape}
    residuals, starts = _fit(trajectory, _designs(frames, fps, seconds))
    likeliest = min(residuals, key=residuals.__getitem__)
    motion = likeliest if residuals[likeliest] <= _MOST_RESIDUAL else None
    return Reading(
        shape=_shape(likeness),
        colour=_same_in_all(seen.colours, {name: COLOURS[name] for name in words.colour}),
        size=_size(trajectory[2, 0] if motion is None else starts[motion]),
        ground=ground,
        motion=motion,
        trajectory=trajectory,
        colours=seen.colours,
        residuals=residuals,
        likeness={shape: float(frame_by_frame.mean()) for shape, frame_by_frame in likeness.items()},
    )


def judge(reading: Reading, scene: Scene) -> dict[str, bool]:
    """Which attributes were read as the scene has them, and whether ``"all"`` were."""
    right = {name: getattr(reading, name) == getattr(scene, name) for name in ATTRIBUTES}
    return right | {"all": all(right.values())}


def score(
    videos: Iterable[Float[Tensor, "3 t h w"]], scenes: Sequence[Scene], fps: float, part: Part = "full"
) -> dict[str, Rate]:
    """The share of clips that show each attribute of their scene, and all of them."""
    judged = [judge(read(video, fps, part, scene.seconds), scene) for video, scene in zip(videos, scenes, strict=True)]
    return {name: wilson(sum(right[name] for right in judged), len(judged)) for name in (*ATTRIBUTES, "all")}


def wilson(successes: int, count: int) -> Rate:
    """Wilson's score interval at 95 % (Wilson 1927)."""
    z = 1.96
    share = successes / count
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / (1 + z**2 / count)
    return Rate(rate=share, low=max(0.0, centre - half), high=min(1.0, centre + half))


# Taking the picture apart


def _border(video: Float[Tensor, "3 t h w"]) -> Float[np.ndarray, "t 3"]:
    """The median colour of each frame's border, which the object never covers."""
    edges = (video[:, :, 0], video[:, :, -1], video[:, :, :, 0], video[:, :, :, -1])
    return torch.cat(edges, dim=2).median(dim=2).values.T.double().numpy()


def _segment(video: Float[Tensor, "3 t h w"], grounds: Float[np.ndarray, "t 3"]) -> _Object | None:
    """The object's colour and coverage in each frame, or None where nothing stands out from the ground in some frame."""
    ground = torch.from_numpy(np.median(grounds, axis=0)).float()
    contrast = video - ground[:, None, None, None]
    distance = contrast.square().sum(dim=0).sqrt()  # ten times as fast as norm over a leading dimension
    strongest = distance.flatten().topk(distance.numel() // 100).values.mean()
    if not strongest >= _LEAST_CONTRAST:  # so written that a clip of nan has no object
        return None
    colour = contrast[:, distance > 0.75 * strongest].median(dim=1).values
    cover = torch.einsum("cthw,c->thw", contrast, colour / colour.square().sum())
    solid = cover > 0.5
    solid &= F.avg_pool2d(solid.float(), 3, stride=1, padding=1) > 0.4  # drops lone pixels of noise
    if not solid.any(dim=(1, 2)).all():
        return None
    near = F.avg_pool2d(solid.float(), 5, stride=1, padding=2) > 0
    colours = torch.stack(
        [video[:, i, cover[i] >= min(0.8, float(cover[i].max()))].median(dim=1).values for i in range(len(cover))]
    )
    return _Object(colours=colours.double().numpy(), cover=(cover * near).double().numpy())


def _trajectory(cover: Float[np.ndarray, "t h w"]) -> Float[np.ndarray, "3 t"] | None:
    """Centroid and radius of the circle of equal area, in pictures; None where a frame has less than any scene could."""
    _, height, width = cover.shape
    scale = min(height, width)
    area = cover.sum(axis=(1, 2))
    if (area < _LEAST_AREA * scale**2).any():
        return None
    x = (cover.sum(axis=1) * (np.arange(width) + 0.5)).sum(axis=1) / area
    y = (cover.sum(axis=2) * (np.arange(height) + 0.5)).sum(axis=1) / area
    return np.stack([x - (width - scale) / 2, y - (height - scale) / 2, np.sqrt(area / np.pi)]) / scale


def _to_pixels(trajectory: Float[np.ndarray, "3 t"], height: int, width: int) -> Float[np.ndarray, "3 t"]:
    scale = min(height, width)
    return trajectory * scale + np.array([[(width - scale) / 2], [(height - scale) / 2], [0]])


# Naming what is there


def _same_in_all(colours: Float[np.ndarray, "t 3"], palette: Mapping[str, tuple[int, int, int]]) -> str | None:
    """The palette's nearest colour if it is near, and the same in every frame."""
    names = list(palette)
    known = oklab(np.stack([pixel(palette[name]) for name in names]))
    distances = np.linalg.norm(oklab(colours)[:, None] - known, axis=-1)
    nearest = distances.argmin(axis=1)
    agreed = (nearest == nearest[0]).all() and (distances.min(axis=1) <= _COLOUR_TOLERANCE).all()
    return names[nearest[0]] if agreed else None


def oklab(colours: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """sRGB in [-1, 1] to OKLab, where distances are about as large as they look (Ottosson 2020)."""
    coded = np.clip((colours + 1) / 2, 0, 1)
    linear = np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)
    to_cones = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(linear @ np.array(to_cones).T) @ np.array(to_lab).T


def _likeness(cover: Float[np.ndarray, "t h w"], shape: str, pixels: Float[np.ndarray, "3 t"]) -> Float[np.ndarray, " t"]:
    """Intersection over union, frame by frame, with the outline rendered at the place and area that were found."""
    x, y, radius = pixels
    top, left, outline = patches(OUTLINES[shape], x, y, radius, cover.shape[1:])
    cover = np.clip(cover, 0, 1)
    window = np.arange(outline.shape[1])
    rows, columns = np.array(top)[:, None] + window, np.array(left)[:, None] + window
    there = cover[np.arange(len(cover))[:, None, None], rows[:, :, None], columns[:, None, :]]
    shared = np.minimum(there, outline).sum(axis=(1, 2))
    return shared / (cover.sum(axis=(1, 2)) + outline.sum(axis=(1, 2)) - shared)


def _shape(likeness: Mapping[str, Float[np.ndarray, " t"]]) -> str | None:
    """The outline that the object looks most like, if it does so nearly always and closely."""
    table = np.stack(list(likeness.values()))
    best = table.mean(axis=1).argmax()
    agreement = (table.argmax(axis=0) == best).mean()
    close = table[best].mean() >= _LEAST_LIKENESS and table[best].min() >= _LEAST_EVER
    return list(likeness)[best] if close and agreement >= _LEAST_AGREEMENT else None


def _size(radius: float) -> str | None:
    """The size whose range of radii is nearest, on a scale of ratios."""
    if not _RADIUS_BOUNDS[0] * RADII["small"][0] <= radius <= _RADIUS_BOUNDS[1] * RADII["large"][1]:
        return None
    return "small" if radius < sqrt(RADII["small"][1] * RADII["large"][0]) else "large"


# Finding the law


@dataclass(frozen=True)
class _Design:
    """A law at one rate, ready for least squares: the start drops out because rows and basis have their means removed."""

    motion: str
    basis: Basis
    centred: Float[np.ndarray, "s k"]
    inverse: Float[np.ndarray, "k s"]


# A radius counts like a diameter, so that a change of size weighs as much as it shows.
_WEIGHTS = np.array([[1.0], [1.0], [2.0]])


@cache
def _designs(frames: int, fps: float, seconds: float) -> list[_Design]:
    u = np.arange(frames) / fps / seconds
    designs = []
    for motion, law in LAWS.items():
        for rate in np.linspace(*law.rates, _RATES if law.rates[0] < law.rates[1] else 1):
            basis = law.basis(u, float(rate))
            centred = rearrange((basis - basis.mean(axis=2, keepdims=True)) * _WEIGHTS, "k s t -> (s t) k")
            designs.append(_Design(motion, basis, centred, np.linalg.pinv(centred)))
    return designs


def _fit(trajectory: Float[np.ndarray, "3 t"], designs: list[_Design]) -> tuple[dict[str, float], dict[str, float]]:
    """For each law that goes far enough the right way: the residual of its best fit, and the radius it begins with."""
    path = trajectory - trajectory.mean(axis=1, keepdims=True)
    path = (path * _WEIGHTS).reshape(-1)
    residuals: dict[str, float] = {}
    starts: dict[str, float] = {}
    for design in designs:
        coefficients = design.inverse @ path
        start = float((trajectory - np.tensordot(coefficients, design.basis, 1))[2].mean())
        if not _far_enough(LAWS[design.motion], coefficients, start):
            continue
        rest = path - design.centred @ coefficients
        residual = float(np.sqrt((rest**2).sum() / trajectory.shape[1]))
        if residual < residuals.get(design.motion, np.inf):
            residuals[design.motion], starts[design.motion] = residual, start
    return residuals, starts


def _far_enough(law: Law, coefficients: Float[np.ndarray, " k"], radius: float) -> bool:
    if len(coefficients) == 0:
        return True
    amplitude = coefficients[0] if len(coefficients) == 1 else np.linalg.norm(coefficients)
    return bool(amplitude >= _LEAST_AMPLITUDE * law.amplitude[0] * (radius if law.resizes else 1))
