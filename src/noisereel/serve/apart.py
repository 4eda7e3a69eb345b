"""A function run in a process of its own, with limits on its time and memory: what it is given may be hostile."""

from __future__ import annotations

import math
import multiprocessing
import threading
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

SECONDS = 8.0
MEMORY = 2**30  # bytes beyond what the process starts with
AT_ONCE = threading.BoundedSemaphore(2)
PRELOADED = ["av", "noisereel.pipeline", "noisereel.making.recipe", "noisereel.serve.worker", "noisereel.serve.formats"]

# Children are forked from a process that has imported what they need, and has no threads, no accelerator and nothing of ours
# in it: they start in milliseconds, workers too.
CONTEXT = multiprocessing.get_context("forkserver")


def warm_up() -> None:
    """Start the process that children are forked from; it takes seconds, so the sooner the better."""
    CONTEXT.set_forkserver_preload(PRELOADED)
    forkserver.ensure_running()


def run_apart(function: Callable[..., Any], *given: Any, seconds: float = SECONDS, memory: int = MEMORY) -> Any:
    """What the module-level ``function`` returns.

    Raises:
        ValueError: what it raised, or that it needed too much time or memory.
    """
    with AT_ONCE:
        here, there = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=_limited, args=(there, function, given, seconds, memory), daemon=True)
        process.start()
        there.close()
        try:
            here.recv()  # it has started: what comes before is not its fault
            if not here.poll(seconds):
                raise ValueError(f"it takes more than {seconds:g} seconds to read")
            problem, result = here.recv()
        except EOFError as error:
            raise ValueError("it takes too much time or memory to read") from error
        finally:
            process.kill()
            process.join()
            here.close()
    if problem is not None:
        raise ValueError(problem)
    return result


def _limited(server: Connection, function: Callable[..., Any], given: tuple[Any, ...], seconds: float, memory: int) -> None:
    import resource

    server.send("started")
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    if pages:
        most = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    used = resource.getrusage(resource.RUSAGE_SELF)
    until = math.ceil(used.ru_utime + used.ru_stime + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (until, until + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answer: tuple[str | None, Any]
    try:
        answer = None, function(*given)
    except MemoryError:
        answer = "it takes too much memory to read", None
    except Exception as error:
        answer = " ".join(str(error).split())[:300] or type(error).__name__, None
    server.send(answer)
    server.close()
