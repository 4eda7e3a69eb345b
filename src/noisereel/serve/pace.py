"""How long jobs take: learned from those that were done, so that those that wait can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import Any

_NEWEST = 0.3  # how much the last measurement counts


def cost(settings: dict[str, Any]) -> float:
    """The work of a job in steps times pixels, which time is roughly proportional to for one model."""
    return settings["steps"] * settings["rounds"] * settings["frames"] * settings["height"] * settings["width"]


@dataclass
class Pace:
    """Seconds for a unit of work, by model."""

    _rates: dict[str, float] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def learn(self, settings: dict[str, Any], seconds: float) -> None:
        """A job of these settings took so long; of jobs that were made together, each its share."""
        rate = seconds / cost(settings)
        with self._lock:
            before = self._rates.get(settings["model"], rate)
            self._rates[settings["model"]] = before + _NEWEST * (rate - before)

    def seconds(self, settings: dict[str, Any]) -> float | None:
        """How long a job should take; None while nothing is known of its model."""
        with self._lock:
            rate = self._rates.get(settings["model"])
        return None if rate is None else rate * cost(settings)
