"""The laws of motion of the shapes world, in closed form.

A scene's state is ``(x, y, radius)`` in pictures: the shorter side of the picture is 1, ``x`` points right and ``y`` down.
Every law is linear in its coefficients, ``state(u) = start + sum_k coefficient_k * basis_k(u)``, where ``u`` runs from 0 to
1 over the scene. The same table draws the scenes and, by least squares, reads them back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Times = Float[np.ndarray, "t"]
Basis = Float[np.ndarray, "k 3 t"]


@dataclass(frozen=True, kw_only=True)
class Law:
    """One way to move; the size of its coefficients is its ``amplitude``.

    A law with one basis function has one direction, so its coefficient is positive; a law with two is a sine and a cosine,
    so that any phase is a choice of the two.
    """

    basis: Callable[[Times, float], Basis]  # (u, rate)
    reach: tuple[float, float] = (0.0, 0.0)  # how far x and y go for an amplitude of 1
    amplitude: tuple[float, float] = (0.0, 0.0)  # least and most, in pictures; in radii for a law that changes the size
    rates: tuple[float, float] = (1.0, 1.0)  # least and most turns over the scene, for the laws that turn
    resizes: bool = False


def _stack(u: Times, *rows: tuple[Times | float, Times | float, Times | float]) -> Basis:
    """Basis functions given as (x, y, radius), each a row over ``u`` or a constant."""
    return np.stack([np.stack([np.broadcast_to(part, u.shape) for part in row]) for row in rows])


def _line(x: float, y: float) -> Law:
    """Uniform motion along (x, y)."""
    return Law(basis=lambda u, _: _stack(u, (x * u, y * u, 0.0)), reach=(abs(x), abs(y)), amplitude=(0.3, 0.55))


def _turn(direction: float) -> Law:
    """Uniform motion around a circle, seen clockwise for a positive direction because ``y`` points down."""

    def basis(u: Times, rate: float) -> Basis:
        angle = 2 * np.pi * rate * u
        cosine, sine = np.cos(angle), direction * np.sin(angle)
        return _stack(u, (cosine, sine, 0.0), (-sine, cosine, 0.0))

    return Law(basis=basis, reach=(2.0, 2.0), amplitude=(0.13, 0.22), rates=(0.75, 1.0))


def _sway() -> Law:
    """Harmonic motion from side to side."""

    def basis(u: Times, rate: float) -> Basis:
        angle = 2 * np.pi * rate * u
        return _stack(u, (np.cos(angle), 0.0, 0.0), (np.sin(angle), 0.0, 0.0))

    return Law(basis=basis, reach=(2.0, 0.0), amplitude=(0.13, 0.22), rates=(1.25, 1.5))


def _fall() -> Law:
    """Free fall from rest."""
    return Law(basis=lambda u, _: _stack(u, (0.0, u**2, 0.0)), reach=(0.0, 1.0), amplitude=(0.3, 0.55))


def _bounce() -> Law:
    """Free fall from rest onto a floor that gives back all the energy, ``rate`` floor-to-floor flights in the scene."""

    def basis(u: Times, rate: float) -> Basis:
        flight = (rate * u + 0.5) % 1  # 0 and 1 on the floor, 1/2 at the top
        return _stack(u, (0.0, (2 * flight - 1) ** 2, 0.0))

    return Law(basis=basis, reach=(0.0, 1.0), amplitude=(0.3, 0.5), rates=(2.0, 2.0))


def _resize(direction: float, least: float, most: float) -> Law:
    return Law(basis=lambda u, _: _stack(u, (0.0, 0.0, direction * u)), amplitude=(least, most), resizes=True)


_SLANT = 0.5**0.5
LAWS = {
    "left": _line(-1.0, 0.0),
    "right": _line(1.0, 0.0),
    "up": _line(0.0, -1.0),
    "down": _line(0.0, 1.0),
    "grows": _resize(1.0, 0.4, 0.5),
    "still": Law(basis=lambda u, _: np.zeros((0, 3, len(u)))),
    "shrinks": _resize(-1.0, 0.35, 0.4),
    "up left": _line(-_SLANT, -_SLANT),
    "up right": _line(_SLANT, -_SLANT),
    "down left": _line(-_SLANT, _SLANT),
    "down right": _line(_SLANT, _SLANT),
    "clockwise": _turn(1.0),
    "counterclockwise": _turn(-1.0),
    "sways": _sway(),
    "falls": _fall(),
    "bounces": _bounce(),
}
