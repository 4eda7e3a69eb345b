"""Workers as replicas of Ray Serve: what they and the server say to each other.

With NOISEREEL_TEST_RAY=1 over a real Ray too, which on a busy machine takes minutes to start, and gives up.
"""

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from serving import PROMPT

from noisereel.data.reader import probe
from noisereel.data.writer import write
from noisereel.serve import messages
from noisereel.serve.config import Config
from noisereel.serve.ray_engine import RayLink, Replica
from noisereel.serve.results import FRAMES, INPUT

pytest.importorskip("ray", reason="needs noisereel[ray]")
needs_time = pytest.mark.skipif(not os.environ.get("NOISEREEL_TEST_RAY"), reason="set NOISEREEL_TEST_RAY=1 to start Ray")


class Handle:
    """As Ray's handle of a deployment, of a replica in this process."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica

    def __getattr__(self, method: str) -> SimpleNamespace:
        def remote(*given: Any) -> SimpleNamespace:
            return SimpleNamespace(result=lambda timeout_s: asyncio.run(getattr(self.replica, method)(*given)))

        return SimpleNamespace(remote=remote)


def heard(link: RayLink, kind: type, seconds: float = 120) -> Any:
    """The next message of a kind."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if isinstance(message := link.receive(0.5), kind):
            return message
    raise AssertionError(f"no {kind.__name__} came")


def settings(id: str, **more: Any) -> dict[str, Any]:
    plain = dict(
        model="tiny", prompt=PROMPT, seed=1, kind="generate", steps=3, guidance=2.0, negative=None, frames=4, extend=None
    )
    return {**plain, "height": 16, "width": 16, "fps": 4.0, "scale": 1, "extend": None, "input": None, **more}


def test_files_travel_both_ways_and_another_life_is_seen(tiny_folder: Path, tmp_path: Path) -> None:
    config = Config(data=tmp_path, models=(("tiny", str(tiny_folder)),))
    for folder in (config.results, config.inputs):
        folder.mkdir()
    handle = Handle(Replica(config, "cpu"))
    link = RayLink(config, handle)
    assert heard(link, messages.Opened).facts["id"] == "tiny"
    id, other = f"video_{'0' * 32}", f"video_{'1' * 32}"
    (config.inputs / id).mkdir()
    write(torch.zeros(3, 1, 16, 16), config.inputs / id / INPUT, fps=4)
    tasks = [messages.Task(id, settings(id, kind="image", input=id, input_sha256="0"))]
    link.send(messages.Work(tasks))
    assert heard(link, messages.Done).id == id
    heard(link, messages.Idle)
    assert np.load(config.results / id / FRAMES)["frames"].shape == (3, 4, 16, 16)
    assert probe(config.results / id / "video.mp4").frames == 4
    link.send(messages.Work([messages.Task(other, settings(other, steps=1000))]))
    heard(link, messages.Progress)
    link.send(messages.Cancel(other))
    heard(link, messages.Idle)  # not after a thousand steps
    handle.replica = Replica(config, "cpu")  # as Ray does when one has died
    with pytest.raises(EOFError):
        link.receive(0)
    with pytest.raises(EOFError):
        link.send(messages.Watch(frozenset()))


def frames(data: Path, id: str) -> np.ndarray:
    return np.load(data / "results" / id / FRAMES)["frames"]


@needs_time
def test_workers_on_ray_make_the_videos_that_local_ones_make(start: Callable, tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), (200, 30, 30)).save(tmp_path / "first.png")

    def made(running) -> list[str]:
        plain = running.submit(seed=3)["id"]
        with (tmp_path / "first.png").open("rb") as file:
            answer = running.http.post("/v1/videos", data={"prompt": PROMPT, "seed": "4"}, files={"input_reference": file})
        long = running.submit(num_inference_steps=1000)["id"]
        assert running.ended(plain)["status"] == "completed"
        assert running.ended(answer.json()["id"])["status"] == "completed"
        running.http.post(f"/v1/videos/{long}/cancel")
        assert running.ended(running.submit(seed=5)["id"])["status"] == "completed"  # not after a thousand steps
        return [plain, answer.json()["id"]]

    with start("--batch", 1) as running:
        local = made(running)
    with start("--batch", 1, "--engine", "ray") as running:
        remote = made(running)
    for one, other in zip(local, remote, strict=True):
        np.testing.assert_array_equal(frames(tmp_path / "data", one), frames(tmp_path / "data", other))
