"""Accepted means kept: servers and workers are killed at any moment, and each job still has exactly one result."""

import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from serving import Running

from noisereel.serve.results import FRAMES


def worker_of(running: Running) -> psutil.Process:
    """The process that samples: of what is forked for the server, the one that stays."""
    forked = [one for child in psutil.Process(running.process.pid).children() for one in child.children()]
    return min(forked, key=lambda one: one.create_time())


def gone(process: psutil.Process, seconds: float) -> bool:
    """Whether it ends in that time; nobody may be left to bury it."""
    until = time.monotonic() + seconds
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def frames(data: Path, id: str) -> np.ndarray:
    return np.load(data / "results" / id / FRAMES)["frames"]


def test_killed_under_load_each_job_is_made_once_and_no_worker_outlives_its_server(start: Callable, tmp_path: Path) -> None:
    accepted: dict[str, int] = {}
    dice = random.Random(0)
    for _ in range(2):
        with start("--batch", 2) as running:
            for _ in range(4):
                seed = len(accepted)
                accepted[running.submit(seed=seed, num_inference_steps=30)["id"]] = seed
            time.sleep(dice.uniform(0, 0.6))
            worker = worker_of(running)
            running.kill()
            assert gone(worker, 60)
    with start("--batch", 2) as running:
        videos = [running.ended(id) for id in accepted]
        listed = running.http.get("/v1/videos?limit=100").json()["data"]
    assert {video["status"] for video in videos} == {"completed"}
    assert {video["id"]: video["seed"] for video in listed} == accepted
    assert {folder.name for folder in (tmp_path / "data" / "results").iterdir()} == set(accepted)
    assert not list((tmp_path / "data").rglob("*.part"))


def test_a_worker_that_is_killed_is_started_again_and_its_job_repeated(start: Callable, tmp_path: Path) -> None:
    with start() as running:
        calm = running.ended(running.submit(seed=3, num_inference_steps=100)["id"])
        video = running.submit(seed=3, num_inference_steps=100)
        while running.http.get(f"/v1/videos/{video['id']}").json()["status"] == "queued":
            time.sleep(0.01)
        worker_of(running).kill()
        again = running.ended(video["id"])
        assert again["status"] == "completed"
        assert "noisereel_worker_deaths_total 1.0" in running.http.get("/metrics").text
    # The same seed gives the same frames, killed or not.
    np.testing.assert_array_equal(frames(tmp_path / "data", calm["id"]), frames(tmp_path / "data", again["id"]))


def test_a_job_that_kills_every_worker_fails_and_says_so(start: Callable, tmp_path: Path) -> None:
    with start() as running:
        video = running.submit(num_inference_steps=1000)
        database = sqlite3.connect(tmp_path / "data" / "jobs.sqlite")
        deaths = 0
        while (state := running.http.get(f"/v1/videos/{video['id']}").json())["status"] != "failed":
            (attempts,) = database.execute("SELECT attempts FROM jobs").fetchone()
            if state["status"] == "in_progress" and attempts == deaths:
                worker_of(running).kill()
                deaths += 1
            time.sleep(0.1)
        assert deaths == 3
        assert state["error"]["code"] == "worker_died"
        assert "3 times" in state["error"]["message"]
        assert running.ended(running.submit()["id"])["status"] == "completed"  # the server goes on


def test_cancelled_within_a_step_and_the_others_go_on(start: Callable, tmp_path: Path) -> None:
    with start("--batch", 2) as running:
        long = running.submit(num_inference_steps=1000)
        while running.http.get(f"/v1/videos/{long['id']}").json()["progress"] < 1:
            time.sleep(0.02)
        waiting = running.submit(seed=1)
        assert waiting["queue_position"] == 1
        cancelled = running.http.post(f"/v1/videos/{long['id']}/cancel").json()
        assert (cancelled["status"], cancelled["error"]["code"]) == ("failed", "cancelled")
        assert running.ended(waiting["id"])["status"] == "completed"  # not after the thousand steps of the other
        assert running.http.post(f"/v1/videos/{waiting['id']}/cancel").json()["status"] == "completed"  # too late
        assert not (tmp_path / "data" / "results" / long["id"]).exists()


def test_results_expire_by_age_and_by_room(tmp_path: Path) -> None:
    from noisereel.serve.config import Config
    from noisereel.serve.server import Server

    server = Server(Config(data=tmp_path, disk=25, keep_days=1))
    ids = []
    for _ in range(4):
        job = server.submit("", {"model": "tiny", "steps": 1, "rounds": 1, "frames": 1, "height": 1, "width": 1, "prompt": ""})
        server.store.claim(1)
        (server.results.of(job.id)).mkdir()
        (server.results.of(job.id) / "video.mp4").write_bytes(b"0123456789")
        server.done(job.id, {"sampling_seconds": 1.0, "batch": 1})
        ids.append(job.id)
    server.sweep()
    assert [server.store.get(id).expired for id in ids] == [True, True, False, False]
    assert [server.results.of(id).exists() for id in ids] == [False, False, True, True]
    server.config = Config(data=tmp_path, disk=25, keep_days=0)
    server.sweep()
    assert server.store.ids() == set()
    assert list((tmp_path / "results").iterdir()) == []


def test_a_worker_that_hangs_is_ended_and_its_job_repeated(start: Callable, tmp_path: Path) -> None:
    with start("--patience", 5) as running:
        calm = running.ended(running.submit(seed=3, num_inference_steps=100)["id"])
        video = running.submit(seed=3, num_inference_steps=100)
        while running.http.get(f"/v1/videos/{video['id']}").json()["status"] == "queued":
            time.sleep(0.01)
        worker = worker_of(running)
        worker.suspend()
        again = running.ended(video["id"])
        assert again["status"] == "completed"
        assert gone(worker, 20)
        assert "noisereel_worker_deaths_total 1.0" in running.http.get("/metrics").text
    np.testing.assert_array_equal(frames(tmp_path / "data", calm["id"]), frames(tmp_path / "data", again["id"]))
