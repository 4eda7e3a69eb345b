"""Work on damaged files in processes of their own: FFmpeg can crash or hang one, and that must not end ours."""

from __future__ import annotations

import atexit
import faulthandler
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

PATIENCE = 8.0  # seconds without a sign of life
MEMORY = 4 * 2**30  # bytes that one process may fill: a bomb ends it, and not the machine

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Failure:
    """What a task came to instead of a result."""

    reason: str


def guarded(function: Callable[[T], R], tasks: Sequence[T], *, processes: int = 0) -> Iterator[R | Failure]:
    """``function`` of each task, in their order, by that many processes; 0 is one for each core that we may use.

    The function must be importable, and call ``alive`` now and then if it may take long. A process that crashes, fills its
    memory or gives no sign of life costs its task, and another takes its place. Processes are kept for the next time.
    """
    with ThreadPoolExecutor(min(processes or cores(), max(1, len(tasks)))) as threads:
        yield from threads.map(lambda task: _ask(function, task), tasks)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def alive() -> None:
    """A sign of life from a task; elsewhere it does nothing."""
    if _serving and time.monotonic() - _serving[-1] > _patience[0] / 20:
        _serving[-1] = time.monotonic()
        faulthandler.dump_traceback_later(_patience[0], exit=True)


def serve(patience: float) -> None:
    """The life of a process: tasks come in on stdin, results go out on what was stdout."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not mix with results
    with suppress(ImportError, ValueError, OSError):  # where there are such limits
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    stdin: Any = sys.stdin.buffer
    _patience[:] = [patience]
    _serving.append(0.0)
    while True:
        if not stdin.peek(1):  # whoever asks has gone
            return
        try:
            # A pipe between us and a child of ours, with our own rights: no file and nobody else is unpickled.
            folder, function, task = pickle.load(stdin)
            os.chdir(folder)  # names may be relative to where the one who asks is now
            alive()
            result = function(task)
        except MemoryError:
            result = Failure(f"decoding it takes more than {MEMORY / 2**30:g} GiB of memory")
        except Exception as error:  # the parent cannot see it otherwise
            result = Failure(str(error) or type(error).__name__)
        faulthandler.cancel_dump_traceback_later()
        _serving[-1] = 0.0
        pickle.dump(result, out)
        out.flush()


_serving: list[float] = []  # in a process that serves, when it last gave a sign of life
_patience: list[float] = []
_idle: list[subprocess.Popen[bytes]] = []
_lock = threading.Lock()


def _ask(function: Callable[[Any], Any], task: Any) -> Any:
    with _lock:
        process = _idle.pop() if _idle else _started()
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        pickle.dump((os.getcwd(), function, task), process.stdin)
        process.stdin.flush()
        result = pickle.load(process.stdout)
    except (EOFError, OSError, pickle.UnpicklingError):
        return Failure(_ending(process.wait()))
    with _lock:
        _idle.append(process)
    return result


def _started() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", f"from noisereel.data.guard import serve; serve({PATIENCE})"]
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths}
    pipe, nothing = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nothing, env=environment)


def _ending(code: int) -> str:
    if code < 0:
        return f"decoding it crashes the decoder ({signal.Signals(-code).name})"
    return f"decoding it gave nothing for {PATIENCE:g} seconds"


@atexit.register
def _farewell() -> None:
    for process in _idle:
        process.kill()
        process.wait()
