"""How an object moves and keeps its colour, and how still the ground is: measures of single clips of the shapes world."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from torch import Tensor

from noisereel.worlds.motions import LAWS, Basis
from noisereel.worlds.oracle import Reading, oklab
from noisereel.worlds.shapes import Scene

MISSING = 1.0  # what a clip without an object is off by: a whole picture, or the distance from black to white
_RATES = 13  # tried of a law that turns


def off_course(reading: Reading, scene: Scene, fps: float) -> float:
    """How far a path is from the nearest one that the scene's law allows: root mean square over frames, in pictures.

    The law is free in where it begins and how far it goes, from its least amplitude on, so that what stands still or goes the
    other way is as far off as the law would have taken it. A radius counts twice, as in the oracle.
    """
    path = reading.trajectory
    if path is None:
        return MISSING
    law, frames = LAWS[scene.motion], path.shape[1]
    u = np.arange(frames) / fps / scene.seconds
    least = law.amplitude[0] * (float(path[2, 0]) if law.resizes else 1.0)
    rates = np.linspace(*law.rates, _RATES if law.rates[0] < law.rates[1] else 1)
    return min(_residual(path, law.basis(u, float(rate)), least) for rate in rates)


def colour_drift(reading: Reading) -> float:
    """How far the object's colour ever is from that of the first frame, in OKLab, where black and white are 1 apart."""
    if reading.colours is None:
        return MISSING
    colours = oklab(reading.colours)
    return float(np.linalg.norm(colours - colours[0], axis=1).max())


def ground_flicker(video: Float[Tensor, "3 t h w"]) -> float:
    """How much the border, where nothing ever moves, changes from frame to frame: mean absolute, in levels of brightness."""
    edges = (video[:, :, 0], video[:, :, -1], video[:, :, :, 0], video[:, :, :, -1])
    return 127.5 * float(sum(edge.float().clamp(-1, 1).diff(dim=1).abs().mean() for edge in edges)) / len(edges)


def _residual(path: Float[np.ndarray, "3 t"], basis: Basis, least: float) -> float:
    weights = np.array([[1.0], [1.0], [2.0]])
    moved = (path - path.mean(axis=1, keepdims=True)) * weights
    rows = ((basis - basis.mean(axis=2, keepdims=True)) * weights).reshape(len(basis), path.size)
    rest = moved.ravel()
    if len(rows):
        rest = rest - _allowed(np.linalg.lstsq(rows.T, rest, rcond=None)[0], least) @ rows
    return float(np.sqrt((rest**2).sum() / path.shape[1]))


def _allowed(coefficients: Float[np.ndarray, " k"], least: float) -> Float[np.ndarray, " k"]:
    """The coefficients, made as large as the law's least amplitude where they are less; one alone has to be positive."""
    if len(coefficients) == 1:
        return np.maximum(coefficients, least)
    size = float(np.linalg.norm(coefficients))
    if size >= least:
        return coefficients
    direction = coefficients / size if size > 0 else np.eye(len(coefficients))[0]  # standing still, one is as near as another
    return least * direction
