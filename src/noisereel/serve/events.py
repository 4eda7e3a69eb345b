"""Who listens to which jobs: events go from any thread to the streams of listeners."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any

WAITING = 64  # events that a slow listener may be behind


@dataclass(frozen=True)
class Event:
    """``kind`` is progress, preview or state."""

    kind: str
    id: str
    owner: str
    data: dict[str, Any]


class Listener:
    """One stream: of one job, or of all of an owner's."""

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: str, id: str | None) -> None:
        self.loop, self.owner, self.id = loop, owner, id
        self.queue: asyncio.Queue[Event] = asyncio.Queue()

    def hears(self, event: Event) -> bool:
        return event.owner == self.owner and self.id in (None, event.id)

    def put(self, event: Event) -> None:
        """In its loop: drops what is not a change of state when the listener is slow."""
        if event.kind == "state" or self.queue.qsize() < WAITING:
            self.queue.put_nowait(event)


class Broker:
    """All listeners."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._listeners: set[Listener] = set()

    def __len__(self) -> int:
        return len(self._listeners)

    def publish(self, event: Event) -> None:
        """From any thread."""
        with self._lock:
            hearing = [listener for listener in self._listeners if listener.hears(event)]
        for listener in hearing:
            if not listener.loop.is_closed():
                listener.loop.call_soon_threadsafe(listener.put, event)

    def watched(self, id: str, owner: str) -> bool:
        """Whether somebody would see a preview of this job."""
        probe = Event("preview", id, owner, {})
        with self._lock:
            return any(listener.hears(probe) for listener in self._listeners)

    @contextmanager
    def listening(self, owner: str, id: str | None) -> Iterator[Listener]:
        listener = Listener(asyncio.get_running_loop(), owner, id)
        with self._lock:
            self._listeners.add(listener)
        try:
            yield listener
        finally:
            with self._lock:
                self._listeners.discard(listener)
