"""The outlines of the shapes world as distance functions.

Every outline has its centroid at the origin and the area of the unit circle, so that "size" means the same for all of them:
the radius of the circle of equal area. ``x`` points right and ``y`` down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import cos, pi, sin, sqrt

import numpy as np
from jaxtyping import Float

Array = Float[np.ndarray, "..."]


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A distance function, negative inside, exact near the edge away from corners, and how far the shape reaches."""

    distance: Callable[[Array, Array], Array]
    side: float  # reach to the left and right
    up: float
    down: float


def coverage(outline: Outline, x: Array, y: Array, radius: Array | float) -> Array:
    """The share of each pixel that the shape covers: a ramp one pixel wide across the edge.

    ``x`` and ``y`` are pixel centres relative to the shape's centre, and ``radius`` its radius, all in pixels.
    """
    return np.clip(0.5 - radius * outline.distance(x / radius, y / radius), 0, 1)


def _circle() -> Outline:
    return Outline(distance=lambda x, y: np.hypot(x, y) - 1, side=1.0, up=1.0, down=1.0)


def _ring(outer: float) -> Outline:
    inner = sqrt(outer**2 - 1)
    middle, half = (outer + inner) / 2, (outer - inner) / 2
    return Outline(distance=lambda x, y: np.abs(np.hypot(x, y) - middle) - half, side=outer, up=outer, down=outer)


def _box(aspect: float) -> Outline:
    """A rectangle ``aspect`` times as wide as high."""
    height = sqrt(pi / aspect) / 2
    width = aspect * height
    return Outline(distance=lambda x, y: np.maximum(np.abs(x) - width, np.abs(y) - height), side=width, up=height, down=height)


def _frame(outer: float) -> Outline:
    """A square with a square hole."""
    inner = sqrt(outer**2 - pi / 4)
    middle, half = (outer + inner) / 2, (outer - inner) / 2
    return Outline(
        distance=lambda x, y: np.abs(np.maximum(np.abs(x), np.abs(y)) - middle) - half, side=outer, up=outer, down=outer
    )


def _cross(thickness: float) -> Outline:
    """A plus sign whose arms are ``thickness`` times as thick as long."""
    arm = sqrt(pi / (4 * thickness * (2 - thickness)))
    half = thickness * arm

    def distance(x: Array, y: Array) -> Array:
        x, y = np.abs(x), np.abs(y)
        return np.minimum(np.maximum(x - arm, y - half), np.maximum(x - half, y - arm))

    return Outline(distance=distance, side=arm, up=arm, down=arm)


def _rhombus(aspect: float) -> Outline:
    """A rhombus ``aspect`` times as high as wide."""
    width = sqrt(pi / (2 * aspect))
    height = aspect * width
    scale = width * height / sqrt(width**2 + height**2)
    return Outline(
        distance=lambda x, y: (np.abs(x) / width + np.abs(y) / height - 1) * scale, side=width, up=height, down=height
    )


def _polygon(corners: int) -> Outline:
    """A regular polygon with a corner at the top."""
    half = pi / corners
    reach = sqrt(pi / (corners * sin(half) * cos(half)))
    angles = [(2 * corner + 1) * half for corner in range(corners)]

    def distance(x: Array, y: Array) -> Array:
        sides = [x * sin(angle) - y * cos(angle) for angle in angles]
        return np.maximum.reduce(sides) - reach * cos(half)

    side = reach * max(sin(2 * half * corner) for corner in range(corners))
    down = -reach * min(cos(2 * half * corner) for corner in range(corners))
    return Outline(distance=distance, side=side, up=reach, down=down)


def _star(points: int, waist: float) -> Outline:
    """A star with a point at the top, whose notches lie at ``waist`` times the reach of its points."""
    half = pi / points
    reach = sqrt(pi / (points * waist * sin(half)))
    # The edge from a point at angle 0 to the notch at angle ``half``, as a unit normal.
    along = waist * cos(half) - 1, waist * sin(half)
    length = sqrt(along[0] ** 2 + along[1] ** 2)
    normal = along[1] / length, -along[0] / length

    def distance(x: Array, y: Array) -> Array:
        angle = np.abs((np.arctan2(x, -y) + half) % (2 * half) - half)
        return np.hypot(x, y) * (np.cos(angle) * normal[0] + np.sin(angle) * normal[1]) - reach * normal[0]

    side = reach * max(sin(2 * half * point) for point in range(points))
    down = -reach * min(cos(2 * half * point) for point in range(points))
    return Outline(distance=distance, side=side, up=reach, down=down)


OUTLINES = {
    "circle": _circle(),
    "square": _box(1.0),
    "triangle": _polygon(3),
    "ring": _ring(1.2),
    "diamond": _rhombus(4 / 3),
    "star": _star(5, 0.5),
    "cross": _cross(0.36),
    "bar": _box(2.2),
    "pentagon": _polygon(5),
    "hexagon": _polygon(6),
    "frame": _frame(1.06),
}
