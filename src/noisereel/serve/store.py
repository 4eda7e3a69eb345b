"""Jobs in SQLite: what was accepted is kept, whatever happens to the process, and is finished once."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import RLock
from typing import Any, Literal

State = Literal["queued", "in_progress", "completed", "failed"]
ACTIVE = "('queued', 'in_progress')"

_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order of arrival
    id TEXT UNIQUE NOT NULL,
    owner TEXT NOT NULL,                       -- the name of the key that sent it
    once TEXT,                                 -- the client's Idempotency-Key
    model TEXT NOT NULL,
    kind TEXT NOT NULL,                        -- jobs of one kind can be sampled together
    settings TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,       -- workers that died of it
    created REAL NOT NULL,
    started REAL,
    ended REAL,
    error TEXT,
    result TEXT,
    expired INTEGER NOT NULL DEFAULT 0,        -- its files went to make room
    UNIQUE (owner, once)
);
CREATE INDEX IF NOT EXISTS jobs_state ON jobs (state, number);
CREATE INDEX IF NOT EXISTS jobs_owner ON jobs (owner, number);
"""


class QueueFull(Exception):  # noqa: N818
    """As many jobs wait as may; ``of_owner`` tells whether it is the owner's own share."""

    def __init__(self, waiting: int, *, of_owner: bool) -> None:
        super().__init__(f"{waiting} jobs wait")
        self.waiting, self.of_owner = waiting, of_owner


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row."""

    number: int
    id: str
    owner: str
    model: str
    kind: str
    settings: dict[str, Any]
    state: State
    attempts: int
    created: float
    started: float | None
    ended: float | None
    error: dict[str, str] | None
    result: dict[str, Any] | None
    expired: bool


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many jobs may wait, of everybody and of one owner (whose running ones count)."""

    queue: int
    per_owner: int


class Store:
    """All jobs; safe to call from any thread."""

    def __init__(self, path: Path) -> None:
        self._lock = RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")  # an answer of 200 survives a power cut too
        self._db.executescript(_TABLE)

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def add(
        self, owner: str, settings: dict[str, Any], kind: str, limits: Limits, *, once: str | None = None, id: str | None = None
    ) -> tuple[Job, bool]:
        """Accept a job; returns it, and whether it is new: a repeated ``once`` gives the job that it gave before.

        Raises:
            QueueFull: too many wait.
        """
        id = id or new_id()
        with self._transaction():
            if once is not None and (row := self._one("SELECT * FROM jobs WHERE owner = ? AND once = ?", owner, once)):
                return _job(row), False
            self.check_room(owner, limits)
            self._db.execute(
                "INSERT INTO jobs (id, owner, once, model, kind, settings, state, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (id, owner, once, settings["model"], kind, json.dumps(settings), "queued", time.time()),
            )
            row = self._one("SELECT * FROM jobs WHERE id = ?", id)
        assert row is not None
        return _job(row), True

    def check_room(self, owner: str, limits: Limits) -> None:
        """Whether one more job may wait.

        Raises:
            QueueFull: too many do.
        """
        with self._lock:
            waiting = self._count("state = 'queued'")
            own = self._count(f"state IN {ACTIVE} AND owner = ?", owner)
        if waiting >= limits.queue:
            raise QueueFull(waiting, of_owner=False)
        if own >= limits.per_owner:
            raise QueueFull(own, of_owner=True)

    def get(self, id: str) -> Job | None:
        with self._lock:
            row = self._one("SELECT * FROM jobs WHERE id = ?", id)
        return row and _job(row)

    def page(self, owner: str, *, limit: int, after: str | None = None, newest_first: bool = True) -> tuple[list[Job], bool]:
        """A page of the owner's jobs, and whether there are more."""
        order, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
        with self._lock:
            start = self._one("SELECT number FROM jobs WHERE id = ? AND owner = ?", after, owner) if after else None
            if after and start is None:
                raise KeyError(after)
            condition, values = (f"AND number {beyond} ?", [start["number"]]) if start else ("", [])
            rows = self._db.execute(
                f"SELECT * FROM jobs WHERE owner = ? {condition} ORDER BY number {order} LIMIT ?", [owner, *values, limit + 1]
            ).fetchall()
        return [_job(row) for row in rows[:limit]], len(rows) > limit

    def claim(self, most: int) -> list[Job]:
        """The oldest waiting job and up to ``most - 1`` of its kind, now in progress; one a worker died of goes alone."""
        with self._lock:
            if self._one("SELECT 1 FROM jobs WHERE state = 'queued' LIMIT 1") is None:  # asked often, and seldom true
                return []
        with self._transaction():
            first = self._one("SELECT * FROM jobs WHERE state = 'queued' ORDER BY number LIMIT 1")
            if first is None:
                return []
            rows = [first]
            if not first["attempts"]:
                rows = self._db.execute(
                    "SELECT * FROM jobs WHERE state = 'queued' AND kind = ? AND attempts = 0 ORDER BY number LIMIT ?",
                    (first["kind"], most),
                ).fetchall()
            now = time.time()
            for row in rows:
                self._db.execute("UPDATE jobs SET state = 'in_progress', started = ? WHERE number = ?", (now, row["number"]))
            return [_job(self._one("SELECT * FROM jobs WHERE number = ?", row["number"])) for row in rows]

    def complete(self, id: str, result: dict[str, Any]) -> bool:
        """Whether this finished it: not when it was cancelled or deleted meanwhile."""
        return self._end(id, "completed", "in_progress", result=json.dumps(result))

    def fail(self, id: str, code: str, message: str, *, also_queued: bool = False) -> bool:
        """End it with a reason; whether it was still to be ended."""
        error = json.dumps({"code": code, "message": message})
        if self._end(id, "failed", "in_progress", error=error):
            return True
        return also_queued and self._end(id, "failed", "queued", error=error)

    def release(self, ids: Sequence[str], *, died: bool = False) -> None:
        """Back to the queue, to be started over; ``died`` counts against the jobs."""
        with self._transaction():
            for id in ids:
                self._db.execute(
                    "UPDATE jobs SET state = 'queued', started = NULL, attempts = attempts + ? "
                    "WHERE id = ? AND state = 'in_progress'",
                    (int(died), id),
                )

    def release_all(self) -> int:
        """What was in progress when the last server ended starts over."""
        with self._transaction():
            done = self._db.execute("UPDATE jobs SET state = 'queued', started = NULL WHERE state = 'in_progress'")
        return done.rowcount

    def delete(self, id: str) -> None:
        with self._transaction():
            self._db.execute("DELETE FROM jobs WHERE id = ?", (id,))

    def forget_files(self, id: str) -> None:
        """Its files are gone; that it was made is still known."""
        with self._transaction():
            self._db.execute("UPDATE jobs SET expired = 1 WHERE id = ?", (id,))

    def ended_before(self, moment: float) -> list[str]:
        """Jobs that ended before then."""
        with self._lock:
            rows = self._db.execute("SELECT id FROM jobs WHERE ended < ? ORDER BY ended", (moment,)).fetchall()
        return [row["id"] for row in rows]

    def kept(self) -> list[Job]:
        """Finished jobs whose files are there, the oldest first."""
        with self._lock:
            rows = self._db.execute("SELECT * FROM jobs WHERE state = 'completed' AND NOT expired ORDER BY ended").fetchall()
        return [_job(row) for row in rows]

    def unfinished(self) -> list[Job]:
        """What waits or runs, in order."""
        with self._lock:
            rows = self._db.execute(f"SELECT * FROM jobs WHERE state IN {ACTIVE} ORDER BY number").fetchall()
        return [_job(row) for row in rows]

    def counts(self) -> dict[str, int]:
        """Jobs by state."""
        with self._lock:
            rows = self._db.execute("SELECT state, COUNT(*) AS n FROM jobs GROUP BY state").fetchall()
        return {row["state"]: row["n"] for row in rows}

    def ids(self) -> set[str]:
        with self._lock:
            return {row["id"] for row in self._db.execute("SELECT id FROM jobs")}

    def _end(self, id: str, state: State, before: State, *, result: str | None = None, error: str | None = None) -> bool:
        with self._transaction():
            done = self._db.execute(
                "UPDATE jobs SET state = ?, ended = ?, result = ?, error = ? WHERE id = ? AND state = ?",
                (state, time.time(), result, error, id, before),
            )
        return done.rowcount == 1

    def _one(self, query: str, *values: Any) -> Any:
        return self._db.execute(query, values).fetchone()

    def _count(self, condition: str, *values: Any) -> int:
        return self._db.execute(f"SELECT COUNT(*) FROM jobs WHERE {condition}", values).fetchone()[0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")


def new_id() -> str:
    """Of a job: long enough that nobody guesses another's."""
    return f"video_{secrets.token_hex(16)}"


def _job(row: sqlite3.Row) -> Job:
    values = {name: row[name] for name in row.keys() if name != "once"}  # noqa: SIM118  (a Row is no dict)
    for name in ("settings", "error", "result"):
        values[name] = values[name] and json.loads(values[name])
    return Job(**{**values, "expired": bool(values["expired"])})
