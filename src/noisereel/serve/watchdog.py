"""When a worker is given up: it says nothing any more, or works and does not get on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from noisereel.serve.messages import Alive, FromWorker

GAP = 1.0  # seconds between two looks that count at most: a server that was itself stopped has not waited


class Hung(Exception):  # noqa: N818
    """The worker is there and does nothing; says since when."""


@dataclass
class Watchdog:
    """Of one worker."""

    patience: float  # seconds of silence
    step_limit: float  # seconds of work without a step
    clock: Callable[[], float] = time.monotonic
    quiet: float = 0.0
    stuck: float = 0.0

    def __post_init__(self) -> None:
        self.looked = self.clock()

    def saw(self, message: FromWorker | None, *, working: bool) -> None:
        """After each look for a message, whether there was one or not.

        Raises:
            Hung: it has been too long.
        """
        now = self.clock()
        passed, self.looked = min(GAP, now - self.looked), now
        self.quiet = self.quiet + passed if message is None else 0.0
        got_on = not working or not isinstance(message, Alive | None)
        self.stuck = 0.0 if got_on else self.stuck + passed
        if self.quiet > self.patience:
            raise Hung(f"said nothing for {self.patience:g} seconds")
        if self.stuck > self.step_limit:
            raise Hung(f"made no step in {self.step_limit:g} seconds")
