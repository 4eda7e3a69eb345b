"""A thread for each worker process: hands it jobs, hears of them, starts it again when it dies."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.process import BaseProcess
from typing import Protocol, runtime_checkable

from noisereel.serve import messages, worker
from noisereel.serve.apart import CONTEXT
from noisereel.serve.config import Config
from noisereel.serve.messages import FromWorker, Task, ToWorker
from noisereel.serve.watchdog import Hung, Watchdog

TICK = 0.05  # seconds between looks at what was cancelled and who watches
BURIED = 10.0  # seconds that a process may take to die: one in the kernel's hands may never


@runtime_checkable
class Link(Protocol):
    """A worker, wherever it runs."""

    def send(self, message: ToWorker) -> None: ...

    def receive(self, seconds: float) -> FromWorker | None:
        """The next message, None if none comes in that time. Raises EOFError: the worker is gone."""
        ...

    def close(self) -> None: ...


class LocalLink:
    """A worker process on this machine."""

    def __init__(self, config: Config, device: str | None) -> None:
        self._here, there = CONTEXT.Pipe()
        self._process: BaseProcess = CONTEXT.Process(
            target=worker.main, args=(there, config, device), daemon=True, name="noisereel worker"
        )
        self._process.start()
        there.close()

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def send(self, message: ToWorker) -> None:
        try:
            self._here.send(message)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise EOFError from error

    def receive(self, seconds: float) -> FromWorker | None:
        try:
            return self._here.recv() if self._here.poll(seconds) else None
        except (BrokenPipeError, ConnectionResetError) as error:
            raise EOFError from error

    def close(self) -> None:
        self._here.close()
        self._process.kill()  # one that was stopped too
        self._process.join(BURIED)


@runtime_checkable
class Desk(Protocol):
    """Where a dispatcher gets jobs and tells of them."""

    def next_work(self, seconds: float) -> list[Task]:
        """Jobs to be sampled together; none if none comes in that time."""
        ...

    def heard(self, message: FromWorker) -> None: ...

    def still_wanted(self, id: str) -> bool: ...

    def watched(self, ids: Sequence[str]) -> frozenset[str]: ...

    def died(self, ids: Sequence[str]) -> None: ...


class Dispatcher(threading.Thread):
    """Keeps one worker busy."""

    def __init__(self, desk: Desk, connect: Callable[[], Link], watchdog: Callable[[], Watchdog]) -> None:
        super().__init__(daemon=True, name="noisereel dispatcher")
        self.desk, self.connect, self.watchdog = desk, connect, watchdog
        self.held: list[str] = []  # jobs that the worker has and that have not ended
        self.deaths = 0  # since the worker last finished something
        self._stop_asked = threading.Event()

    def run(self) -> None:
        """Until ``stop``: a worker that dies or hangs is started again, later and later if that goes on."""
        while not self._stop_asked.is_set():
            link = None
            try:
                link, self._watchdog = self.connect(), self.watchdog()
                while not self._stop_asked.is_set():
                    self._serve(link)
            except Exception as error:
                self._say(error)
                lost = True
            else:
                lost = False
            if link is not None:
                link.close()
            if lost:  # the worker is no more, so nobody else makes its jobs
                self._give_back()
                self._stop_asked.wait(min(10.0, 0.1 * 2 ** min(self.deaths, 7)))

    def stop(self) -> None:
        """Ends the worker too; what it was doing is started over by the next server."""
        self._stop_asked.set()
        self.join()

    def _say(self, error: Exception) -> None:
        if isinstance(error, Hung):
            print(f"noisereel: a worker {error} and is started again", file=sys.stderr)
        elif not isinstance(error, EOFError):  # a fault of the server's, such as a disk that is full
            traceback.print_exc(file=sys.stderr)

    def _give_back(self) -> None:
        self.deaths += 1
        held, self.held = self.held, []
        try:
            self.desk.died(held)
        except Exception:  # the jobs are in progress for nobody until the next start, which is better than no dispatcher
            traceback.print_exc(file=sys.stderr)

    def _serve(self, link: Link) -> None:
        if (message := self._next(link, 0)) is not None:  # such as a model that was opened
            self.desk.heard(message)
            return
        tasks = self.desk.next_work(TICK)
        if tasks:
            self.held = [task.id for task in tasks]
            link.send(messages.Work(tasks))
            self._attend(link)

    def _next(self, link: Link, seconds: float) -> FromWorker | None:
        message = link.receive(seconds)
        self._watchdog.saw(message, working=bool(self.held))
        return message

    def _attend(self, link: Link) -> None:
        """Until the work is over: tell the worker what is cancelled and watched, and hear how far it is."""
        watched: frozenset[str] = frozenset()
        told: set[str] = set()
        looked = 0.0
        while not self._stop_asked.is_set():
            if time.monotonic() - looked > TICK:
                looked = time.monotonic()
                for id in [id for id in self.held if id not in told and not self.desk.still_wanted(id)]:
                    link.send(messages.Cancel(id))
                    told.add(id)
                if (now := self.desk.watched(self.held)) != watched:
                    link.send(messages.Watch(now))
                    watched = now
            message = self._next(link, TICK)
            if isinstance(message, messages.Idle):
                self.deaths, self.held = 0, []
                return
            if message is not None:
                self.desk.heard(message)
            if isinstance(message, messages.Done | messages.Failed):
                self.held = [id for id in self.held if id != message.id]
