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
from dataclasses import asdict, replace
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from noisereel.serve.config import Config
from noisereel.serve.facts import facts_of
from noisereel.serve.messages import (
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
from noisereel.serve.results import FRAMES, INPUT, Folders

if TYPE_CHECKING:
    from noisereel.making.job import Job, Order
    from noisereel.pipeline import TextToVideo
    from noisereel.system import Moment
    from noisereel.types import Video

PREVIEW_SHARE = 0.1  # of the time of sampling that previews may take
GONE = (EOFError, BrokenPipeError, ConnectionResetError)  # what the end of the server looks like


def main(server: Connection, config: Config, device: str | None) -> None:
    """The life of a worker process; it ends with its server, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group, and the server decides
    threading.Thread(target=_end_with_server, daemon=True).start()
    try:
        Worker(server, config, device).serve()
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
        self.tell(Opened(asdict(facts_of(name, pipe))))

    def work(self, tasks: list[Task]) -> None:
        """Sample the tasks together; where they cannot be, each alone, for one of them may be the reason."""
        self.cancelled.clear()
        try:
            self.make(tasks)
        except ValueError:
            for task in tasks:
                self.make_alone(task)
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
        from noisereel.making.memory import samples_at_once
        from noisereel.making.recipe import recipe

        settings = tasks[0].settings
        pipe = self.pipes.get(settings["model"])
        if pipe is None:
            raise ValueError(f"the model {settings['model']} is not open here")
        order = replace(ordered(settings, self.inputs), signing=self.config.signing)
        job = prepared(pipe, [task.settings["prompt"] for task in tasks], order)
        kind = settings["model"], job.shape, job.known
        if kind not in self.fitting:  # measured once
            self.fitting[kind] = samples_at_once(job.system.first, job.shape, self.config.batch, known=job.known)
        at_once = self.fitting[kind]
        common = recipe(pipe, settings["model"], job, order)
        if settings["input"]:  # where it lies is nobody's business
            common["image" if order.image else "clip"] = f"sha256:{settings['input_sha256']}"
        for start in range(0, len(tasks), at_once):
            self.sample(tasks[start : start + at_once], job, common)

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

    def kept(self, task: Task, video: Video, note: dict[str, Any], finish: Any) -> dict[str, Any]:
        """Write the video and its frames into the job's folder; returns what is said of them."""
        import numpy as np
        import torch

        from noisereel.data.writer import whole

        folder = self.results.of(task.id)
        folder.mkdir(parents=True, exist_ok=True)
        frames = ((video[0].float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()
        with whole(folder / FRAMES) as (temporary,), temporary.open("wb") as file:
            np.savez_compressed(file, frames=frames)
        finish.write(video, folder / "video.mp4", note)
        return {"frames": frames.shape[1], "height": frames.shape[2], "width": frames.shape[3], "note": note}

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


def ordered(settings: dict[str, Any], inputs: Folders) -> Order:
    """A job's settings as the library takes them."""
    from noisereel.making.job import Order

    path = inputs.of(settings["input"]) / INPUT if settings["input"] else None
    named = ("negative", "steps", "guidance", "frames", "height", "width", "extend", "fps", "scale")
    order = Order(**{name: settings[name] for name in named})
    return replace(order, image=path) if settings["kind"] == "image" else replace(order, clip=path)


class Previews:
    """Small moving pictures of what is believed so far, as long as they cost little beside the sampling."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.spent = 0.0
        self.frames = 1  # of the latents that are decoded: as many as the time allows

    def of(self, system: Any, moment: Moment, ids: Sequence[str], watched: frozenset[str]) -> list[tuple[str, bytes]]:
        """Of those that are watched, unless previews have taken their share of the time."""
        wanted = [(number, id) for number, id in enumerate(ids) if id in watched]
        now = time.perf_counter()
        if not wanted or moment.video is not None or self.spent > PREVIEW_SHARE * (now - self.began):
            return []
        stage, clean = system.stages[moment.stage], moment.step.clean
        most = clean.shape[2] - stage.spare
        frames = min(self.frames, most)
        made = []
        for number, id in wanted:
            try:
                made.append((id, picture(stage.decode(clean[number : number + 1, :, : stage.spare + frames]))))
            except ValueError:  # not finite: the end will tell
                continue
        took = time.perf_counter() - now
        self.spent += took
        if took * most / frames < PREVIEW_SHARE / 4 * (now - self.began) * moment.step.total / (moment.step.index + 1):
            self.frames = most  # four whole previews fit
        return made


def picture(video: Video, frames: int = 8, side: int = 128) -> bytes:
    """A video as a small animated WebP."""
    import io

    import torch
    from PIL import Image

    count = video.shape[2]
    chosen = video[0, :, torch.linspace(0, count - 1, min(frames, count)).round().long()]
    array = ((chosen.float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 3, 0).numpy()
    first, *rest = [Image.fromarray(frame) for frame in array]
    for image in (first, *rest):
        image.thumbnail((side, side))
    stream = io.BytesIO()
    first.save(stream, "WEBP", save_all=True, append_images=rest, duration=125, loop=0, quality=60, method=0)
    return stream.getvalue()
