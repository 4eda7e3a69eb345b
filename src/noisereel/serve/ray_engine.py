"""Workers on other machines: each is a deployment of Ray Serve, and the server keeps the queue, the results and the API.

A replica shares no disk with the server: what a job begins with travels there in the message, its files travel back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import tempfile
import threading
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from noisereel.data.writer import whole
from noisereel.serve import messages
from noisereel.serve.config import Config
from noisereel.serve.messages import FromWorker, ToWorker
from noisereel.serve.results import INPUT, Folders
from noisereel.serve.worker import BEATS, Worker, beat

PATIENCE = 120.0  # seconds that an answer of a replica may take: as long as sampling holds the interpreter


class Mailbox:
    """Both ends of a worker's connection inside one process; what the worker calls is as in ``multiprocessing``."""

    def __init__(self) -> None:
        self._in: queue.Queue[Any] = queue.Queue()
        self.out: queue.Queue[FromWorker] = queue.Queue()

    def deliver(self, message: ToWorker | None) -> None:
        """To the worker; None is the end."""
        self._in.put(message)

    def send(self, message: FromWorker) -> None:
        self.out.put(message)

    def poll(self) -> bool:
        return not self._in.empty()

    def recv(self) -> Any:
        message = self._in.get()
        if message is None:
            raise EOFError
        return message


class Replica:
    """A worker inside a replica of Ray Serve, on whatever machine that is."""

    def __init__(self, config: Config, device: str | None) -> None:
        self.life = uuid.uuid4().hex  # another one after Ray has started the replica again
        self._folder = tempfile.TemporaryDirectory(prefix="noisereel-")
        config = replace(config, data=Path(self._folder.name))
        self._results, self._inputs = Folders(config.results), Folders(config.inputs)
        config.results.mkdir()
        config.inputs.mkdir()
        self._mail = Mailbox()
        threading.Thread(target=self._run, args=(config, device), daemon=True).start()
        threading.Thread(target=beat, args=(self._mail, config.patience / BEATS), daemon=True).start()

    def _run(self, config: Config, device: str | None) -> None:
        with contextlib.suppress(EOFError):
            Worker(self._mail, config, device).serve()

    async def who(self) -> str:
        return self.life

    async def tell(self, life: str, message: ToWorker, inputs: dict[str, bytes]) -> bool:
        """Whether it is still the replica that is meant."""
        if life != self.life:
            return False
        for id, content in inputs.items():
            folder = self._inputs.of(id)
            folder.mkdir(exist_ok=True)
            (folder / INPUT).write_bytes(content)
        self._mail.deliver(message)
        return True

    async def hear(self, life: str, seconds: float) -> tuple[FromWorker, dict[str, bytes]] | str | None:
        """The next message with the files that go with it; None if none comes, and ``"gone"`` for another life."""
        if life != self.life:
            return "gone"
        try:
            message = await asyncio.to_thread(self._mail.out.get, timeout=seconds)
        except queue.Empty:
            return None
        files: dict[str, bytes] = {}
        if isinstance(message, messages.Done):
            folder = self._results.of(message.id)
            files = {path.name: path.read_bytes() for path in folder.iterdir()}
            self._results.remove(message.id)
            self._inputs.remove(message.id)
        return message, files


def deployed(config: Config, device: str | None, number: int) -> Any:
    """The handle of worker ``number``, which is deployed if it is not yet."""
    import ray
    from ray import serve

    ray.init(address=config.ray, ignore_reinit_error=True, log_to_driver=False, logging_level=logging.WARNING)
    serve.start(proxy_location="Disabled")  # the API is the server's
    needs = {"num_cpus": 1, "num_gpus": int((device or "").startswith("cuda"))}
    deployment: Any = serve.deployment(Replica, name="worker", num_replicas=1, ray_actor_options=needs)
    return serve.run(deployment.bind(config, device), name=f"noisereel-{number}", route_prefix=None)


class RayLink:
    """The server's end of one replica."""

    def __init__(self, config: Config, handle: Any) -> None:
        self._results, self._inputs = Folders(config.results), Folders(config.inputs)
        self._handle = handle
        self._life: str = self._ask("who")

    def send(self, message: ToWorker) -> None:
        inputs: dict[str, bytes] = {}
        if isinstance(message, messages.Work):
            ids = [task.settings["input"] for task in message.tasks if task.settings["input"]]
            inputs = {id: (self._inputs.of(id) / INPUT).read_bytes() for id in ids}
        if not self._ask("tell", self._life, message, inputs):
            raise EOFError

    def receive(self, seconds: float) -> FromWorker | None:
        heard = self._ask("hear", self._life, seconds)
        if heard is None:
            return None
        if heard == "gone":
            raise EOFError
        message, files = heard
        if files:
            folder = self._results.of(message.id)
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in files.items():
                with whole(folder / name) as (temporary,):
                    temporary.write_bytes(content)
        return message

    def close(self) -> None:
        """Ray starts a replica that died again by itself, so there is nothing to end until the server stops."""

    def _ask(self, method: str, *given: Any) -> Any:
        from ray.exceptions import RayError

        try:
            return getattr(self._handle, method).remote(*given).result(timeout_s=PATIENCE)
        except (RayError, TimeoutError) as error:
            raise EOFError from error
