"""The process that samples: models opened once, compatible jobs together, cancelled within a step, previews while watched."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from noisereel.serve.config import Config
from noisereel.serve.facts import facts_of
from noisereel.serve.messages import (
    Alive,
    Broken,
    Cancel,
    Done,
    Failed,
    FromWorker,
    Idle,
    Opened,
    Preview,
    Progress,
    Task,
    Watch,
    Work,
)
from noisereel.serve.previews import Previews
from noisereel.serve.results import INPUT, Folders, as_bytes, save_frames

if TYPE_CHECKING:
    from noisereel.making.finish import Finish
    from noisereel.making.job import Job, Order
    from noisereel.pipeline import TextToVideo
    from noisereel.types import Video

BEATS = 6  # signs of life in the time that the server waits for one
GONE = (EOFError, BrokenPipeError, ConnectionResetError)  # what the end of the server looks like


def main(server: Connection, config: Config, device: str | None) -> None:
    """The life of a worker process; it ends with its server, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, and the server decides
    threading.Thread(target=_end_with_server, daemon=True).start()
    mail = Post(server)
    threading.Thread(target=beat, args=(mail, config.patience / BEATS), daemon=True).start()
    try:
        Worker(mail, config, device).serve()
    except GONE:
        os._exit(0)


def _end_with_server() -> None:
    """Even in the middle of a long step; files are written whole or not at all."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(0)


@runtime_checkable
class Mail(Protocol):
    """What a worker needs of a connection."""

    def poll(self) -> bool: ...

    def recv(self) -> Any: ...

    def send(self, message: Any) -> None: ...


class Post:
    """A connection that several threads send through."""

    def __init__(self, connection: Connection) -> None:
        self.poll, self.recv = connection.poll, connection.recv
        self._send, self._lock = connection.send, threading.Lock()

    def send(self, message: Any) -> None:
        with self._lock:
            self._send(message)


def beat(mail: Mail, seconds: float) -> None:
    """Say again and again that the process runs, until nobody hears it."""
    with suppress(*GONE):
        while True:
            time.sleep(seconds)
            mail.send(Alive())


class Unwanted(Exception):  # noqa: N818  (nothing went wrong)
    """The job was cancelled while it was worked on."""


class Worker:
    """Answers one server."""

    def __init__(self, server: Mail, config: Config, device: str | None) -> None:
        self.server, self.config, self.device = server, config, device
        self.results, self.inputs = Folders(config.results), Folders(config.inputs)
        self.pipes: dict[str, TextToVideo] = {}
        self.fitting: dict[tuple[Any, ...], int] = {}  # how many videos of a model and shape memory holds at once
        self.cancelled: set[str] = set()
        self.watched: frozenset[str] = frozenset()

    def serve(self) -> None:
        """Open the models, the first before anything else, then do what is asked until the server is gone."""
        for name, place in self.config.models:
            self.open(name, place)
        while True:
            message = self.server.recv()
            if isinstance(message, Work):
                self.work(message.tasks)
            else:
                self.heard(message)

    def open(self, name: str, place: str) -> None:
        from noisereel.making.device import pick
        from noisereel.pipeline import TextToVideo

        try:
            pipe = TextToVideo.from_pretrained(place).to(pick(self.device))
        except Exception as error:
            self.tell(Broken(name, " ".join(str(error).split())))
            return
        self.pipes[name] = pipe
        self.tell(Opened(asdict(facts_of(name, pipe)), pipe.ruler))

    def work(self, tasks: list[Task]) -> None:
        """Sample the tasks together; where they cannot be, each alone, for one of them may be the reason."""
        self.cancelled.clear()
        try:
            try:
                self.make(tasks)
            except ValueError:
                if len(tasks) == 1:
                    raise
                for task in tasks:
                    self.make_alone(task)
        except ValueError as error:
            self.refuse(tasks[0], error)
        except OSError as error:
            if isinstance(error, GONE):
                raise
            self.fail(tasks, "server_error", f"The video could not be written: {error.strerror}.")
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            self.fail(tasks, "generation_failed", f"Sampling failed ({type(error).__name__}).")
        self.tell(Idle())

    def make_alone(self, task: Task) -> None:
        try:
            self.make([task])
        except ValueError as error:
            self.refuse(task, error)

    def refuse(self, task: Task, error: ValueError) -> None:
        said = " ".join(str(error).split())
        self.fail([task], "invalid_request", f"{said[:1].upper()}{said[1:]}.")

    def fail(self, tasks: Sequence[Task], code: str, reason: str) -> None:
        for task in tasks:
            self.tell(Failed(task.id, code, reason))

    def make(self, tasks: list[Task]) -> None:
        """Sample, write and report, as many at once as memory holds.

        Raises:
            ValueError: what the model cannot do, or what does not fit in memory.
        """
        from noisereel.making.job import prepared
        from noisereel.making.recipe import recipe

        settings = tasks[0].settings
        pipe = self.pipes.get(settings["model"])
        if pipe is None:
            raise ValueError(f"the model {settings['model']} is not open here")
        if settings["kind"] == "upscale":
            self.enlarge(tasks[0], pipe)  # alone, for no other begins with its clip
            return
        order = replace(ordered(settings, self.inputs, pipe), signing=self.config.signing)
        job = prepared(pipe, [task.settings["prompt"] for task in tasks], order)
        at_once = self.at_once(settings["model"], job, len(tasks))
        common = recipe(pipe, settings["model"], job, order)
        if settings["input"]:  # where it lies is nobody's business
            common["image" if order.image else "clip"] = f"sha256:{settings['input_sha256']}"
        for start in range(0, len(tasks), at_once):
            self.sample(tasks[start : start + at_once], job, common)

    def at_once(self, model: str, job: Job, wanted: int) -> int:
        """How many videos like the job's are sampled together, of those that are wanted.

        Raises:
            ValueError: not even one fits in memory.
        """
        from noisereel.making.memory import needs_measuring, samples_at_once

        if not needs_measuring(job.shape, wanted):
            return wanted
        kind = model, job.shape, job.known
        if kind not in self.fitting:  # measured once, for it takes as long as a short video
            self.fitting[kind] = samples_at_once(job.system.first, job.shape, self.config.batch, known=job.known)
        return self.fitting[kind]

    def sample(self, tasks: list[Task], job: Job, common: dict[str, Any]) -> None:
        """Sample the tasks in one batch, and write what is still wanted."""
        from noisereel.making.memory import enough_memory

        ids = [task.id for task in tasks]
        notes = [{"prompt": task.settings["prompt"], "seed": task.settings["seed"], **common} for task in tasks]
        began, previews, video = time.perf_counter(), Previews(), None
        with enough_memory("ask for a smaller or shorter video"):
            for share, moment in job.moments([note["prompt"] for note in notes], [note["seed"] for note in notes]):
                self.listen()
                if self.cancelled.issuperset(ids):
                    return
                self.tell(Progress([id for id in ids if id not in self.cancelled], share))
                for id, webp in previews.of(job.system, moment, ids, self.watched):
                    self.tell(Preview(id, webp))
                video = moment.video
        assert video is not None
        facts = {"sampling_seconds": time.perf_counter() - began, "batch": len(tasks)}
        if len(tasks) > 1:
            notes = [{**note, "batch": len(tasks)} for note in notes]
        for one, task, note in zip(video.split(1), tasks, notes, strict=True):
            self.listen()
            if task.id not in self.cancelled:
                self.tell(Done(task.id, {**facts, **self.kept(task, one, note, job.finish)}))

    def kept(self, task: Task, video: Video, note: dict[str, Any], finish: Finish) -> dict[str, Any]:
        """Write the video and its frames into the job's folder; returns what is said of them."""
        folder = self.results.of(task.id)
        folder.mkdir(parents=True, exist_ok=True)
        said = save_frames(folder, as_bytes(video[0]))
        finish.write(video, folder / "video.mp4", note)
        return {**said, "note": note}

    def enlarge(self, task: Task, pipe: TextToVideo) -> None:
        """Make a clip larger as ``noisereel upscale`` does, and write it.

        Raises:
            ValueError: what the model cannot do, or what does not fit in memory.
        """
        import numpy as np

        from noisereel.data.writer import written
        from noisereel.making.enlarge import Wish, enlargement
        from noisereel.making.finish import signer
        from noisereel.making.memory import enough_memory

        wanted = task.settings
        heard = wanted["prompt"] if wanted["prompt"] and pipe.hears else None  # to the others it is only a title
        wish = Wish(
            space=wanted["space"], time=wanted["time"], prompt=heard, seed=wanted["seed"], steps=asked_steps(wanted, pipe)
        )
        size = wanted["height"], wanted["width"]
        job = enlargement(pipe, wish, size)
        note = {"prompt": wanted["prompt"], **job.note(wanted["model"], f"sha256:{wanted['input_sha256']}")}
        began, frames = time.perf_counter(), []
        folder = self.results.of(task.id)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            film = written(folder / "video.mp4", fps=wanted["fps"], size=size, metadata=note)
            with enough_memory("ask for a smaller or shorter video"), film as add:
                clip = self.inputs.of(wanted["input"]) / INPUT
                for piece in job.pieces(clip, wanted["frames"] // wanted["time"], lambda share: self.went_on(task, share)):
                    add(piece)
                    frames.append(as_bytes(piece))
        except Unwanted:
            return
        said = save_frames(folder, np.concatenate(frames, axis=1))
        if self.config.signing is not None:
            signer(self.config.signing).sign(folder / "video.mp4", note)
        self.tell(Done(task.id, {**said, "note": note, "batch": 1, "sampling_seconds": time.perf_counter() - began}))

    def went_on(self, task: Task, share: float) -> None:
        """After a step.

        Raises:
            Unwanted: nobody waits for it any more.
        """
        self.listen()
        if task.id in self.cancelled:
            raise Unwanted
        self.tell(Progress([task.id], share))

    def listen(self) -> None:
        """Hear what the server has to say, without waiting for it."""
        while self.server.poll():
            self.heard(self.server.recv())

    def heard(self, message: Any) -> None:
        if isinstance(message, Cancel):
            self.cancelled.add(message.id)
        elif isinstance(message, Watch):
            self.watched = message.ids

    def tell(self, message: FromWorker) -> None:
        self.server.send(message)


def asked_steps(settings: dict[str, Any], pipe: TextToVideo) -> int | None:
    """None for the model's own, which in a cascade are not the same for every stage, and in a distilled model fixed."""
    return None if settings["steps"] == pipe.system.first.steps else settings["steps"]


def ordered(settings: dict[str, Any], inputs: Folders, pipe: TextToVideo) -> Order:
    """A job's settings as the library takes them."""
    from noisereel.making.job import Order

    path = inputs.of(settings["input"]) / INPUT if settings["input"] else None
    named = ("negative", "frames", "height", "width", "extend", "fps", "scale")
    guidance = None if settings["guidance"] == pipe.guidance() else settings["guidance"]
    order = Order(steps=asked_steps(settings, pipe), guidance=guidance, **{name: settings[name] for name in named})
    return replace(order, image=path) if settings["kind"] == "image" else replace(order, clip=path)
