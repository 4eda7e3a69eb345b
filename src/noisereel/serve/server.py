"""The server without HTTP: jobs are submitted, made by workers, watched, cancelled, and swept away when their time is over."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Sequence
from typing import Any

from noisereel.serve import messages
from noisereel.serve.config import Config
from noisereel.serve.dispatch import Dispatcher, Link, LocalLink
from noisereel.serve.errors import Refused, unknown_video
from noisereel.serve.events import Broker, Event
from noisereel.serve.facts import Facts
from noisereel.serve.messages import FromWorker, Task
from noisereel.serve.metrics import Metrics
from noisereel.serve.pace import Pace
from noisereel.serve.results import Folders, is_id
from noisereel.serve.store import Job, Limits, QueueFull, Store
from noisereel.serve.videos import described
from noisereel.serve.watchdog import Watchdog
from noisereel.text.ruler import Ruler

SWEEP = 60.0  # seconds between looks at what is too old or too much


class Server:
    """Everything behind the routes."""

    def __init__(self, config: Config) -> None:
        config.results.mkdir(parents=True, exist_ok=True)
        config.inputs.mkdir(parents=True, exist_ok=True)
        self.config = config
        self.store = Store(config.database)
        self.results, self.inputs = Folders(config.results), Folders(config.inputs)
        self.broker, self.pace, self.metrics = Broker(), Pace(), Metrics()
        self.facts: dict[str, Facts] = {}
        self.rulers: dict[str, Ruler | None] = {}
        self.broken: dict[str, str] = {}  # models that cannot be opened, and why
        self.shares: dict[str, float] = {}  # how much of a running job is done
        self.settled = threading.Event()  # the first model is open, or cannot be opened
        self._new = threading.Condition()
        self._stopping = threading.Event()
        self.dispatchers = [
            Dispatcher(
                self,
                lambda device=device, number=number: linked(config, device, number),  # type: ignore[misc]
                lambda: Watchdog(config.patience, config.step_limit),
            )
            for number, device in enumerate(config.devices)
        ]

    # Life

    def start(self) -> None:
        """What the last server left is put in order, and the workers start."""
        self.store.release_all()
        self.sweep_folders()
        for dispatcher in self.dispatchers:
            dispatcher.start()
        threading.Thread(target=self._housekeeping, daemon=True, name="noisereel housekeeping").start()

    def stop(self) -> None:
        """Jobs in progress start over with the next server."""
        self._stopping.set()
        for dispatcher in self.dispatchers:
            dispatcher.stop()
        self.store.close()

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    @property
    def ready(self) -> bool:
        return bool(self.facts)

    @property
    def opening(self) -> set[str]:
        """Models that are not open yet, and may still be."""
        return {name for name, _ in self.config.models} - self.facts.keys() - self.broken.keys()

    # What people do

    def submit(self, owner: str, settings: dict[str, Any], *, once: str | None = None, id: str | None = None) -> Job:
        """Accept a job; when this returns it is on disk.

        Raises:
            Refused: too many wait.
        """
        try:
            job, new = self.store.add(owner, settings, batch_key(settings), self.limits, once=once, id=id)
        except QueueFull as full:
            raise self.too_many(full) from full
        if new:
            self.metrics.submitted.labels(job.model).inc()
            self.tell_state(job)
            with self._new:
                self._new.notify_all()
        return job

    def check_room(self, owner: str) -> None:
        """Before work is spent on a request: whether its job could be queued.

        Raises:
            Refused: too many wait.
        """
        try:
            self.store.check_room(owner, self.limits)
        except QueueFull as full:
            raise self.too_many(full) from full

    @property
    def limits(self) -> Limits:
        return Limits(queue=self.config.queue, per_owner=self.config.per_key)

    def too_many(self, full: QueueFull) -> Refused:
        whose, code = ("You have", "quota_exceeded") if full.of_owner else ("There are", "queue_full")
        message = f"{whose} {full.waiting} jobs waiting, which is as many as may; try again when some are done."
        return Refused(429, message, code, headers={"Retry-After": str(self.retry_after())})

    def find(self, owner: str, id: str) -> Job:
        """The owner's job.

        Raises:
            Refused: there is none.
        """
        job = self.store.get(id) if is_id(id) else None
        if job is None or job.owner != owner:
            raise unknown_video()
        return job

    def cancel(self, owner: str, id: str) -> Job:
        """End it; the worker stops within a sampling step. What has ended already stays as it is."""
        job = self.find(owner, id)
        if self.store.fail(id, "cancelled", "The job was cancelled.", also_queued=True):
            self.metrics.ended.labels(job.model, "cancelled").inc()
            self.ended(id)
        return self.find(owner, id)

    def delete(self, owner: str, id: str) -> None:
        """Cancel it if it is not over, and forget it and its files."""
        self.cancel(owner, id)
        self.forget(id)

    def forget(self, id: str) -> None:
        self.store.delete(id)
        self.results.remove(id)
        self.inputs.remove(id)

    def describe(self, job: Job, unfinished: Sequence[Job] | None = None) -> dict[str, Any]:
        """The job as a video object; what is unfinished is looked up if not given."""
        expires = None if job.ended is None else job.ended + self.config.keep_days * 86400
        video = described(job, self.shares.get(job.id, 0.0), expires)
        if job.state in ("queued", "in_progress"):
            before = [] if job.state == "in_progress" else self._before(job, unfinished)
            place = 1 + sum(other.state == "queued" for other in before) if job.state == "queued" else 0
            video |= {"queue_position": place, "eta_seconds": self._eta(job, before)}
        return video

    def _before(self, job: Job, unfinished: Sequence[Job] | None) -> list[Job]:
        others = self.store.unfinished() if unfinished is None else unfinished
        return [other for other in others if other.state == "in_progress" or other.number < job.number]

    def _eta(self, job: Job, before: Sequence[Job]) -> float | None:
        """Seconds until it should be done, as far as is known."""
        times = [self._left(other) for other in before]
        own = self._left(job)
        if own is None or None in times:
            return None
        return round(own + sum(filter(None, times)) / len(self.dispatchers), 1)

    def _left(self, job: Job) -> float | None:
        seconds = self.pace.seconds(job.settings)
        return None if seconds is None else seconds * (1 - self.shares.get(job.id, 0.0))

    def retry_after(self) -> int:
        """Seconds until a place in the queue should be free."""
        running = [job for job in self.store.unfinished() if job.state == "in_progress"]
        times = [self.pace.seconds(job.settings) or 2.0 for job in running]
        return max(1, min(60, round(min(times, default=2.0))))

    # What workers do (Desk)

    def next_work(self, seconds: float) -> list[Task]:
        jobs = self.store.claim(self.config.batch) if self.ready else []
        if not jobs:
            with self._new:
                self._new.wait(seconds)
            return []
        for job in jobs:
            self.shares[job.id] = 0.0
            self.tell_state(job)
        return [Task(job.id, job.settings) for job in jobs]

    def heard(self, message: FromWorker) -> None:
        match message:
            case messages.Opened(facts, ruler):
                self.rulers[facts["id"]] = ruler
                self.facts[facts["id"]] = Facts(**facts)
                self.settled.set()
            case messages.Broken(model, reason):
                self.broken[model] = reason
                self.settled.set()
            case messages.Progress(ids, share):
                for id in ids:
                    self.progressed(id, share)
            case messages.Preview(id, webp):
                if (job := self.store.get(id)) is not None:
                    url = f"data:image/webp;base64,{base64.b64encode(webp).decode()}"
                    self.broker.publish(Event("preview", id, job.owner, {"id": id, "image": url}))
            case messages.Done(id, result):
                self.done(id, result)
            case messages.Failed(id, code, reason):
                self.failed(id, code, reason)
            case _:
                pass

    def still_wanted(self, id: str) -> bool:
        job = self.store.get(id)
        return job is not None and job.state == "in_progress"

    def watched(self, ids: Sequence[str]) -> frozenset[str]:
        jobs = [job for id in ids if len(self.broker) and (job := self.store.get(id)) is not None]
        return frozenset(job.id for job in jobs if self.broker.watched(job.id, job.owner))

    def died(self, ids: Sequence[str]) -> None:
        """The worker did; its jobs start over, each alone, unless they have done so too often."""
        self.metrics.deaths.inc()
        self.store.release(ids, died=True)
        for id in ids:
            job = self.store.get(id)
            if job is None or job.state != "queued":
                continue
            if job.attempts >= self.config.attempts:
                self.store.fail(
                    id,
                    "worker_died",
                    f"The worker process died {job.attempts} times while making this video.",
                    also_queued=True,
                )
                self.metrics.ended.labels(job.model, "failed").inc()
                self.ended(id)
            else:
                self.shares.pop(id, None)
                self.tell_state(job)

    def progressed(self, id: str, share: float) -> None:
        self.shares[id] = share
        if len(self.broker) and (job := self.store.get(id)) is not None:
            data = {"id": id, "progress": min(99, int(100 * share)), "eta_seconds": self._eta(job, [])}
            self.broker.publish(Event("progress", id, job.owner, data))

    def done(self, id: str, result: dict[str, Any]) -> None:
        if not self.store.complete(id, result):  # cancelled or deleted in its last moment
            self.results.remove(id)
            return
        job = self.store.get(id)
        if job is not None:
            self.pace.learn(job.settings, result["sampling_seconds"] / result["batch"])
            self.metrics.ended.labels(job.model, "completed").inc()
            self.metrics.sampling.labels(job.model).observe(result["sampling_seconds"])
        self.ended(id)

    def failed(self, id: str, code: str, reason: str) -> None:
        if self.store.fail(id, code, reason):
            if (job := self.store.get(id)) is not None:
                self.metrics.ended.labels(job.model, "failed").inc()
            self.ended(id)

    def ended(self, id: str) -> None:
        self.shares.pop(id, None)
        if (job := self.store.get(id)) is not None:
            if job.state == "failed":
                self.results.remove(id)
            self.tell_state(job)

    def tell_state(self, job: Job) -> None:
        if len(self.broker):
            self.broker.publish(Event("state", job.id, job.owner, self.describe(job)))

    # Housekeeping

    def _housekeeping(self) -> None:
        while not self._stopping.wait(SWEEP):
            self.sweep()

    def sweep(self) -> None:
        """Forget what is too old; of finished files, remove the oldest until the rest fit."""
        for id in self.store.ended_before(time.time() - self.config.keep_days * 86400):
            self.forget(id)
        kept = self.store.kept()
        sizes = {job.id: self.results.size(job.id) for job in kept}  # formats are added when they are asked for
        total = sum(sizes.values())
        for job in kept:
            if total <= self.config.disk:
                break
            self.store.forget_files(job.id)
            self.results.remove(job.id)
            self.inputs.remove(job.id)
            total -= sizes[job.id]

    def sweep_folders(self) -> None:
        known = self.store.ids()
        self.results.sweep(known)
        self.inputs.sweep(known)


def linked(config: Config, device: str | None, number: int) -> Link:
    """A worker where the configuration says."""
    if config.engine == "ray":
        from noisereel.serve.ray_engine import RayLink, deployed

        return RayLink(config, deployed(config, device, number))
    return LocalLink(config, device)


def batch_key(settings: dict[str, Any]) -> str:
    """Equal for jobs that can be sampled together: all but the prompt and the seed."""
    import json

    together = {name: value for name, value in settings.items() if name not in ("prompt", "seed", "asked", "remixed_from")}
    return json.dumps(together, sort_keys=True)
