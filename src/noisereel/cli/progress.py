"""Progress with the time that is left, on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[float, str], None]  # the share that is done, and a few words


@contextmanager
def progress(what: str, seconds: float = 15.0) -> Iterator[Report]:
    """Yields a function to call with the share that is done and a few words; ``seconds`` lie between lines."""
    if not sys.stderr.isatty():
        yield Lines(what, seconds)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=1, note="")

        def report(share: float, note: str) -> None:
            bar.update(task, completed=share, note=note)

        yield report


class Lines:
    """A line now and then, for logs and pipes; work shorter than ``seconds`` stays silent."""

    def __init__(self, what: str, seconds: float) -> None:
        self.what, self.seconds = what, seconds
        self.start = self.spoke = time.monotonic()
        self.first: float | None = None

    def __call__(self, share: float, note: str) -> None:
        now = time.monotonic()
        if self.first is None:  # a continued run did not do its first part in this time
            self.first, self.start = share, now
        if now - self.spoke < self.seconds or share <= self.first:
            return
        self.spoke = now
        left = (now - self.start) * (1 - share) / (share - self.first)
        print(f"{self.what}: {share:.0%}, about {duration(left)} left {note}".rstrip(), file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
