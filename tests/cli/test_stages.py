from dataclasses import replace
from pathlib import Path

import pytest
import torch

from noisereel.cli import generate
from noisereel.cli.app import main
from noisereel.cli.clock import Clock
from noisereel.conditioning import LowRes
from noisereel.data.reader import probe
from noisereel.making.job import Order, prepared
from noisereel.pipeline import TextToVideo
from noisereel.recipes.upscaler import upscaler
from noisereel.system import System


def test_every_stage_of_a_cascade_is_shown(tiny: TextToVideo, tmp_path: Path) -> None:
    larger = upscaler(size="tiny", time=1).system.stages["space"]
    assert isinstance(larger.given, LowRes)
    larger = replace(larger, shape=(4, 64, 64), given=replace(larger.given, size=(4, 64, 64)))
    cascade = replace(tiny, system=System(stages={**tiny.system.stages, "space": larger}))
    job = prepared(cascade, ["a red circle"], Order(scale=1))
    path = tmp_path / "a.mp4"
    note = {"prompt": "a red circle", "seed": 1}
    assert generate.make(job, [note], [path], 1, Clock(), lambda share, words: None, stages=True) == []
    assert (probe(path).height, probe(path).width) == (64, 64)
    beside = probe(tmp_path / "a-stages.mp4")
    assert beside.frames == 4
    assert beside.width > 2 * 64
    assert torch.is_tensor(job.sample(["a red circle"], [1], lambda share: None)["space"])


def test_one_stage_has_nothing_to_compare(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["generate", "a red circle", "--stages", "--model", str(tiny_folder), "-o", str(tmp_path / "a.mp4")]
    assert main(words) == 2
    assert "has one: leave it out" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
