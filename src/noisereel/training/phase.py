"""What is trained, on which data, how far and how fast."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from torch import nn

from noisereel.types import Batch, Trainable


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What is trained, on which data, how far and how fast. Lengths are counted in clips seen, never in steps."""

    name: str
    target: Trainable
    data: Callable[[int], Batch]  # the batch of each draw: a pure function of its number
    clips: int
    held_out: Batch | Callable[[], Batch] | None = None
    prompts: tuple[str, ...] = ()  # what previews show
    moving: Sequence[nn.Parameter] | None = None  # what the optimiser moves; what the target says, when None
    begin: Callable[[], None] | None = None  # once, before the first step: such as taking over what a phase before has learned
    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    warmup: int = 0
    decay: Literal["constant", "linear", "cosine"] = "constant"
    clip_norm: float = 1.0
    ema: int = 100_000  # half-life of the averaged weights; 0 keeps no average
    accumulate: int = 1  # draws to an optimiser step
    apart: bool = True  # whether processes may share out a batch; not where the loss compares its samples with one another
    validate_every: int = 10_000
    preview_every: int = 50_000

    def __post_init__(self) -> None:
        for name in ("clips", "learning_rate", "clip_norm", "accumulate", "validate_every", "preview_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} of phase {self.name!r} is {getattr(self, name)}: give a positive number")
        if self.moving is not None and not self.moving:
            raise ValueError(f"phase {self.name!r} moves no parameters: name some, or leave it to its target")
        if self.decay not in ("constant", "linear", "cosine"):
            raise ValueError(f"decay of phase {self.name!r} is {self.decay!r}: constant, linear or cosine would do")

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser moves."""
        return self.target.parameter_groups() if self.moving is None else [{"params": list(self.moving)}]

    def rate(self, clips: int) -> float:
        """The share of the learning rate that the step ending at ``clips`` uses: a linear warm-up, then the decay to 0."""
        warm = min(1.0, clips / self.warmup) if self.warmup else 1.0
        done = min(1.0, max(0.0, (clips - self.warmup) / max(1, self.clips - self.warmup)))
        return warm * {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[self.decay]

    def settings(self) -> dict[str, Any]:
        """What a run may be asked to do, by name: numbers and words."""
        hidden = ("target", "data", "held_out", "moving", "begin", "apart")
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in hidden}
