"""A measure of videos: its value for a model, for the truth and for controls that it must be able to tell from the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from noisereel.worlds.oracle import Rate

RESAMPLINGS = 1000
HALVINGS = 50


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval, from ``count`` videos."""

    value: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What was measured of a model's videos, beside the same of true ones and of true ones that were spoilt.

    Args:
        name: what it is called.
        meaning: one sentence, with the unit.
        better: whether good videos have ``"more"`` or ``"less"`` of it.
        model: the model's videos.
        truth: true clips of what was asked for.
        controls: true clips spoilt in a way that the measure is there to see.
    """

    name: str
    meaning: str
    better: Literal["more", "less"]
    model: Estimate
    truth: Estimate
    controls: Mapping[str, Estimate]

    @property
    def confused(self) -> list[str]:
        """The controls that it cannot tell from the truth: if there is one, its value says nothing."""
        sign = 1 if self.better == "more" else -1
        worst = self.truth.low if self.better == "more" else self.truth.high
        best = {name: control.high if self.better == "more" else control.low for name, control in self.controls.items()}
        return [name for name, end in best.items() if not sign * worst > sign * end]

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON-able values; without the model's value where the controls cannot be told from the truth."""
        return asdict(self) | {"confused": self.confused} | ({"model": None} if self.confused else {})


def mean_of(values: Sequence[float] | Float[Tensor, n]) -> Estimate:
    """The mean, with the interval that resampling the videos gives (percentile bootstrap, Efron 1979)."""
    array = np.asarray(values, np.float64)
    means = array[_resampled(len(array))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return Estimate(value=float(array.mean()), low=float(low), high=float(high), count=len(array))


def rate_of(rate: Rate, count: int) -> Estimate:
    """A share of videos with its Wilson interval."""
    return Estimate(value=rate.rate, low=rate.low, high=rate.high, count=count)


def halves(
    distance: Callable[[Float[Tensor, "n f"], Float[Tensor, "m f"]], float],
    one: Float[Tensor, "n f"],
    other: Float[Tensor, "m f"],
) -> Estimate:
    """A distance between two sets of features, with the interval that halves of both give.

    Halves, drawn without putting back, do not repeat a video, as a bootstrap would: repetitions are distance where there is
    none. Their spread about their own mean is that of half as many videos, so it is divided by the root of two.
    """
    rng = torch.Generator().manual_seed(0)
    drawn = [
        distance(*(rows[torch.randperm(len(rows), generator=rng)[: len(rows) // 2]] for rows in (one, other)))
        for _ in range(HALVINGS)
    ]
    value = distance(one, other)
    spread = (np.quantile(drawn, (0.025, 0.975)) - np.mean(drawn)) / np.sqrt(2)
    return Estimate(value=value, low=value + float(spread[0]), high=value + float(spread[1]), count=min(len(one), len(other)))


def _resampled(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(count, size=(RESAMPLINGS, count))
