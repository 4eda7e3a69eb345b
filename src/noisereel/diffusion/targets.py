"""What a network can be asked to predict: always ``a * x0 + b * eps``, with a and b functions of the level."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from noisereel.types import Level

Predicts = Literal["x0", "eps", "v", "flow"]
Coefficient = float | Tensor

# (a, b) of each target. v is that of Salimans & Ho 2022, flow is dx/dsigma of rectified flow.
PREDICTS: Mapping[Predicts, Callable[[Level], tuple[Coefficient, Coefficient]]] = {
    "x0": lambda level: (1.0, 0.0),
    "eps": lambda level: (0.0, 1.0),
    "v": lambda level: (-level.sigma, level.alpha),
    "flow": lambda level: (-1.0, 1.0),
}

_SMALLEST = 1e-6  # of alpha and sigma: keeps the ratios of weights at their limits where one of the two is 0


def clean_weight(level: Level, predicts: Predicts) -> Float[Tensor, "*time"]:
    """How much a squared error of the clean video counts in the squared error of the target.

    With x known, an error of x0 is an error of eps times -alpha / sigma, so the factor is (a - b * alpha / sigma)**2:
    1 for x0, SNR for eps, SNR + 1 for v, 1 / sigma**2 for flow. Finite at both ends of the schedule.
    """
    level = Level(alpha=level.alpha.clamp(min=_SMALLEST), sigma=level.sigma.clamp(min=_SMALLEST))
    a, b = PREDICTS[predicts](level)
    return (a - b * level.alpha / level.sigma) ** 2
