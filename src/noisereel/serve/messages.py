"""What the server and a worker say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from noisereel.text.ruler import Ruler


@dataclass(frozen=True)
class Task:
    """A job as a worker needs it."""

    id: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Work:
    """To the worker: sample these together."""

    tasks: list[Task]


@dataclass(frozen=True)
class Cancel:
    """To the worker: nobody wants this one any more."""

    id: str


@dataclass(frozen=True)
class Watch:
    """To the worker: somebody looks at these while they are made."""

    ids: frozenset[str]


@dataclass(frozen=True)
class Opened:
    """A model can be used; requests are checked against its facts, which ``/v1/models`` shows, and prompts by its ruler."""

    facts: dict[str, Any]
    ruler: Ruler | None


@dataclass(frozen=True)
class Broken:
    """A model cannot be opened."""

    model: str
    reason: str


@dataclass(frozen=True)
class Progress:
    """How much of these jobs is done, from 0 to 1."""

    ids: list[str]
    share: float


@dataclass(frozen=True)
class Preview:
    """What a job looks like now, as an animated WebP."""

    id: str
    webp: bytes


@dataclass(frozen=True)
class Done:
    """The job's files are in its folder."""

    id: str
    result: dict[str, Any]


@dataclass(frozen=True)
class Failed:
    """The job cannot be done, and trying again would not help."""

    id: str
    code: str
    message: str


@dataclass(frozen=True)
class Idle:
    """The work is over: each of its jobs is done, failed or cancelled."""


@dataclass(frozen=True)
class Alive:
    """The process runs, whatever it is at."""


ToWorker = Work | Cancel | Watch
FromWorker = Opened | Broken | Progress | Preview | Done | Failed | Idle | Alive
