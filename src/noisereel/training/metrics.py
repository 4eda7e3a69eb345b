"""The log of a run: one JSON object a line, one line a step."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Progress:
    """One training step, as it goes to ``metrics.jsonl``."""

    step: int  # steps done, this one included
    clips: int  # clips seen, likewise
    loss: float
    parts: dict[str, float]
    learning_rate: float
    gradient_norm: float  # before clipping
    clips_per_second: float  # mean of this session
    seconds_left: float
    held_out: dict[str, float] = field(default_factory=dict)  # measured with the averaged weights
    previews: tuple[Path, ...] = ()

    def line(self, folder: Path) -> dict[str, Any]:
        """The step as it is logged in its run's folder: what it was, not what is left to do."""
        values = asdict(self)
        del values["seconds_left"]
        return values | {"previews": [str(path.relative_to(folder)) for path in self.previews]}


class Metrics:
    """A ``metrics.jsonl`` that can be cut back to where a checkpoint was made, so that each step stands there once.

    Of several processes one writes it; the others are ``silent``.
    """

    def __init__(self, path: Path, *, silent: bool = False) -> None:
        self.path = Path(os.devnull) if silent else path

    def open_at(self, size: int) -> None:
        """Make the file, and drop the lines beyond ``size`` bytes: of steps that will be done again."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path == Path(os.devnull):
            return
        with self.path.open("ab") as file:
            file.truncate(size)

    def append(self, values: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def size(self) -> int:
        """How many bytes there are, all of them on the disk."""
        if self.path == Path(os.devnull):
            return 0
        with self.path.open("ab") as file:
            os.fsync(file.fileno())
            return file.tell()
