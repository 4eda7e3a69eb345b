"""Work shared out over a Ray cluster: nothing is lost with a machine, and nothing is done twice as far as anyone can see."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from noisereel.data.guard import Failure, guarded

AGAIN = 5  # times that a task is given to another process after the one that had it died


@dataclass(frozen=True, kw_only=True)
class OnRay:
    """A ``Spread`` (see ``data.prepare``): the function of each task, in their order, by processes of a cluster.

    Tasks of processes and machines that die are done by others; the functions have no effect but their result, so that doing
    one again changes nothing. No more tasks are under way than keep the cluster busy, which bounds what results wait for
    their turn. The machines must see the same files under the same names.
    """

    address: str | None = None  # of the cluster; one of this machine is started, or joined, if not given
    cpus: float = 1.0  # of a task
    gpus: float = 0.0
    risky: bool = False  # whether the function decodes what may be damaged: it then runs in a process of its own, and is timed

    def __call__(self, function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterator[Any]:
        import ray
        from ray.exceptions import RayError

        join(self.address)
        name = getattr(getattr(function, "func", function), "__name__", "work")  # by which Ray lists its processes
        remote: Any = ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=AGAIN)(_apart if self.risky else _here)
        does = remote.options(name=name)
        ahead = 2 * max(1, int(ray.cluster_resources().get("CPU", 1) / max(self.cpus, 0.01)))
        waiting, under_way = iter(tasks), deque[Any]()
        while True:
            while len(under_way) < ahead and (task := next(waiting, _End)) is not _End:
                under_way.append(does.remote(function, task))
            if not under_way:
                return
            try:
                yield ray.get(under_way.popleft())
            except RayError as error:
                yield Failure(" ".join(str(error).split())[-300:])


def join(address: str | None) -> None:
    """Be part of a cluster. Errors: ValueError where there is none."""
    import ray

    if ray.is_initialized():
        return
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # a Ray that does not start in time raises nothing more particular
        raise ValueError(f"there is no Ray cluster at {address or 'this machine'}: {' '.join(str(error).split())}") from error


def _here(function: Callable[[Any], Any], task: Any) -> Any:
    return function(task)


def _apart(function: Callable[[Any], Any], task: Any) -> Any:
    return next(guarded(function, [task], processes=1))


class _End: ...
