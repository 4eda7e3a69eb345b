"""A worker that is there and does nothing is given up; one that is only slow, or whose server slept, is not."""

import threading
import time
from collections.abc import Sequence

import pytest

from noisereel.serve.dispatch import Dispatcher
from noisereel.serve.messages import Alive, Done, Idle, Progress, Task, Work
from noisereel.serve.watchdog import Hung, Watchdog


def test_silence_and_standing_still_have_limits() -> None:
    step = Progress(["a"], 0.5)

    def lives(said: object, seconds: float, working: bool = True, every: float = 0.5) -> bool:
        now = 0.0
        dog = Watchdog(10, 100, clock=lambda: now)
        for _ in range(int(seconds / every)):
            now += every
            try:
                dog.saw(said() if callable(said) else said, working=working)
            except Hung:
                return False
        return True

    assert lives(None, 9)
    assert not lives(None, 12)
    assert lives(Alive(), 90)
    assert not lives(Alive(), 110)
    assert lives(Alive(), 500, working=False)  # a model that is opened slowly
    assert lives(step, 500)
    turns = iter(range(10**6))
    assert lives(lambda: step if next(turns) % 150 == 0 else Alive(), 500)
    assert lives(None, 3000, every=500)  # the server itself was stopped: nobody has waited


class Link:
    """A worker that beats and never gets on, or one that works."""

    def __init__(self, stuck: bool) -> None:
        self.stuck, self.closed, self.tasks = stuck, False, []

    def send(self, message: object) -> None:
        if isinstance(message, Work):
            self.tasks = [*message.tasks, None]

    def receive(self, seconds: float) -> object:
        time.sleep(min(seconds, 0.01))
        if not self.tasks:
            return None
        if self.stuck:
            return Alive()
        task = self.tasks.pop(0)
        return Idle() if task is None else Done(task.id, {})

    def close(self) -> None:
        self.closed = True


class Desk:
    """One job, which waits again when its worker died."""

    def __init__(self) -> None:
        self.waiting, self.deaths, self.done = ["a"], [], threading.Event()

    def next_work(self, seconds: float) -> list[Task]:
        ids, self.waiting = self.waiting, []
        return [Task(id, {}) for id in ids]

    def heard(self, message: object) -> None:
        if isinstance(message, Done):
            self.done.set()

    def still_wanted(self, id: str) -> bool:
        return True

    def watched(self, ids: Sequence[str]) -> frozenset[str]:
        return frozenset()

    def died(self, ids: Sequence[str]) -> None:
        assert links[0].closed  # before anybody else is given its jobs
        self.deaths, self.waiting = list(ids), list(ids)


links: list[Link] = []


def test_a_worker_that_makes_no_step_is_ended_before_its_job_is_given_to_another(capsys: pytest.CaptureFixture[str]) -> None:
    links[:] = [Link(stuck=True), Link(stuck=False)]
    rest, desk = iter(links), Desk()
    dispatcher = Dispatcher(desk, lambda: next(rest), lambda: Watchdog(60, 0.2))
    dispatcher.start()
    assert desk.done.wait(30)
    dispatcher.stop()
    assert desk.deaths == ["a"]
    assert "made no step in 0.2 seconds" in capsys.readouterr().err
