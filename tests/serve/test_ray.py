"""The same API over a real Ray Serve on this machine; slow to start, so only when NOISEREEL_TEST_RAY is set."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from serving import PROMPT

from noisereel.serve.results import FRAMES

pytest.importorskip("ray", reason="needs noisereel[ray]")
pytestmark = pytest.mark.skipif(not os.environ.get("NOISEREEL_TEST_RAY"), reason="set NOISEREEL_TEST_RAY=1 to start Ray")


def frames(data: Path, id: str) -> np.ndarray:
    return np.load(data / "results" / id / FRAMES)["frames"]


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
