"""An exponential moving average of weights, counted in clips."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

RAMP = 0.05  # early on the half-life is this share of the clips seen, so that the random start is soon forgotten


class Ema:
    """The average of parameters, kept in their own precision and layout."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.average: list[Tensor] = [parameter.detach().clone() for parameter in parameters]

    def update(self, decay: float) -> None:
        """``average = decay * average + (1 - decay) * weights``."""
        torch._foreach_lerp_(_here(self.average), _here(self.parameters), 1 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The averages in place of the weights within the block, and the weights back after it, bit for bit."""
        weights = [parameter.detach().clone() for parameter in self.parameters]
        self.adopt()
        try:
            yield
        finally:
            _copy(self.parameters, weights)

    def adopt(self) -> None:
        """Make the averages the weights."""
        _copy(self.parameters, self.average)


def decay(half_life: int, seen: int, batch: int) -> float:
    """How much of the average survives a step of ``batch`` clips after ``seen`` (Karras et al. 2022, appendix F.2).

    All three are in clips. A half-life of 0 keeps no average: it is 0.
    """
    life = min(half_life, RAMP * seen)
    return 0.5 ** (batch / life) if life > 0 else 0.0


def _copy(parameters: Sequence[nn.Parameter], values: Sequence[Tensor]) -> None:
    torch._foreach_copy_(_here(parameters), _here(values))


def _here(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors without their history; of those in shards, the shards of this process."""
    plain = [tensor.detach() for tensor in tensors]
    return [tensor.to_local() if hasattr(tensor, "to_local") else tensor for tensor in plain]
