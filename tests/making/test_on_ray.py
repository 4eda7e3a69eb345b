"""Work on a real Ray of several processes, one of which is killed: nothing is lost, nothing is doubled.

Only with NOISEREEL_TEST_RAY=1: on a busy machine Ray takes minutes to start, and gives up.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import torch

from noisereel.cli.app import main
from noisereel.data.guard import Failure
from noisereel.data.writer import write
from noisereel.making.on_ray import OnRay
from noisereel.pipeline import TextToVideo
from noisereel.recipes.plan import rebuild

pytest.importorskip("ray", reason="needs noisereel[ray]")
needs_time = pytest.mark.skipif(not os.environ.get("NOISEREEL_TEST_RAY"), reason="set NOISEREEL_TEST_RAY=1 to start Ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    import ray

    # Ray's processes look functions up by their module's name: those of this file too.
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False, runtime_env={"env_vars": {"PYTHONPATH": path}})
    yield
    ray.shutdown()


def squared(folder: Path, number: int) -> int:
    """The square, after a moment; the first to be asked for 5 dies of it. Who did what is written down."""
    with (folder / f"{number}.{os.getpid()}.{time.monotonic_ns()}").open("w"):
        time.sleep(0.05)
    if number == 5 and len(list(folder.glob("5.*"))) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def fatal(number: int) -> int:
    """Not for 3."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def wrong(number: int) -> int:
    """A mistake in the code is no breakdown."""
    raise KeyError(number)


@needs_time
@pytest.mark.usefixtures("cluster")
def test_what_a_process_that_died_had_begun_is_done_by_another(tmp_path: Path) -> None:
    assert list(OnRay()(partial(squared, tmp_path), range(20))) == [number * number for number in range(20)]
    assert len(list(tmp_path.glob("5.*"))) == 2
    assert len({path.name.split(".")[1] for path in tmp_path.iterdir()}) >= 3, "two processes, and one in the place of the dead"


@needs_time
@pytest.mark.usefixtures("cluster")
def test_a_task_that_kills_whoever_does_it_is_given_up_and_the_rest_is_done() -> None:
    *before, failed, after = OnRay(risky=True)(fatal, range(5))
    assert [*before, after] == [0, 1, 2, 4]
    assert failed == Failure("decoding it crashes the decoder (SIGKILL)")
    (mistake,) = OnRay()(wrong, [1])
    assert isinstance(mistake, Failure)
    assert "KeyError" in mistake.reason


@needs_time
@pytest.mark.usefixtures("cluster")
def test_a_cluster_prepares_what_this_machine_prepares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    place, model = tmp_path / "videos", tmp_path / "model"
    place.mkdir()
    for number in range(12):
        noise = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(number)) * 1.6 - 0.8
        large = noise.repeat_interleave(4, -1).repeat_interleave(4, -2)
        write(torch.cat([large.roll(frame, -1) for frame in range(16)], dim=1), place / f"{number:02}.mp4", fps=8.0)
    (place / "damaged.mp4").write_bytes(b"nothing" * 99)
    call = {"recipe": "sora", "arguments": {"size": "tiny"}}
    TextToVideo(system=rebuild(call).system, call=call, about={}).save_pretrained(model)
    made = {}
    for engine in ("local", "ray"):
        monkeypatch.setenv("NOISEREEL_CACHE", str(tmp_path / engine))
        command = ["prepare", str(place), "--out", str(tmp_path / f"to-{engine}"), "--model", str(model), "--json"]
        killer = _kills_one(ray) if engine == "ray" else None
        capsys.readouterr()  # what Ray says late of the processes that died before
        assert main([*command, "--engine", engine]) == 0
        facts = json.loads(capsys.readouterr().out)
        if killer:
            assert next(killer)
        index = json.loads((tmp_path / f"to-{engine}" / "prepared.json").read_text())
        kept = importlib.import_module("noisereel.data.store").Store(next((tmp_path / engine / "latents").iterdir()))
        rows = [row.split()[0] for path in kept.folder.glob("*.list") for row in path.read_text().splitlines()]
        assert len(rows) == len(set(rows)) == facts["latents"]
        made[engine] = index, {row: kept.get(bytes.fromhex(row)) for row in rows}
    assert made["local"][0] == made["ray"][0]
    assert made["local"][1].keys() == made["ray"][1].keys()


def _kills_one(ray) -> Iterator[bool]:
    """Kills a process of Ray that is at work, half a second from now, in a thread; yields whether it did."""
    import threading

    import psutil

    done: list[int] = []

    def kill() -> None:
        until = time.monotonic() + 120
        while not done and time.monotonic() < until:
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):  # it may end while it is looked at
                    if "ray::encode" in " ".join(process.cmdline()):
                        process.kill()
                        done.append(process.pid)
                        return
            time.sleep(0.02)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()

    def told() -> Iterator[bool]:
        thread.join(5)
        yield bool(done)

    return told()
