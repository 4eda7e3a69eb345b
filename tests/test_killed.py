"""A run on a folder of videos that is killed again and again is the run that was not, bit for bit.

``NOISEREEL_TEST_KILLS=20`` kills it twenty times.
"""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import torch
from test_distributed import phase
from test_trainer import assert_same_run, lines

from noisereel.data.mix import Mix
from noisereel.data.writer import write
from noisereel.trainer import Phase, Trainer
from noisereel.types import generators, rand
from noisereel.worlds.pools import Pools

KILLS = int(os.environ.get("NOISEREEL_TEST_KILLS", "3"))


def test_a_run_on_a_folder_killed_at_random_moments_is_the_uninterrupted_one(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for number, word in enumerate(("red", "green", "blue", "red green", "green blue")):
        write(rand(generators(0, [number]), 3, 12, 16, 16)[0] * 2 - 1, videos / f"{number}.mp4", fps=8.0)
        (videos / f"{number}.txt").write_text(word)
    mix = Mix(video=Pools.open(str(videos), shape=(2, 8, 8), fps=8.0).video, batch=4)

    def run() -> Phase:
        return phase("dit", data=mix, clips=4 * 12 * (KILLS + 1), validate_every=40)

    def train(folder: Path) -> None:
        for _ in Trainer(run(), folder, seed=7, checkpoint_seconds=0.0).run():
            pass

    train(tmp_path / "whole")
    log, chance = tmp_path / "killed/metrics.jsonl", random.Random(0)
    for kill in range(KILLS):
        child = multiprocessing.get_context("fork").Process(target=train, args=(tmp_path / "killed",))
        child.start()
        fewest = 12 * kill + chance.randrange(1, 12)
        while child.is_alive() and (not log.exists() or log.read_bytes().count(b"\n") < fewest):
            time.sleep(0.001)
        time.sleep(chance.random() / 30)
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    train(tmp_path / "killed")
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    assert [line["step"] for line in lines(tmp_path / "killed")] == list(range(1, 12 * (KILLS + 1) + 1))
    assert torch.isfinite(torch.tensor([line["loss"] for line in lines(tmp_path / "killed")])).all()
