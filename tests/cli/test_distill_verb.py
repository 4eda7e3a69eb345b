"""The verb ``distill``: rounds that are continued, a model that reopens with its own few steps, mistakes in one line."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from noisereel import checkpoint
from noisereel.cli.app import main
from noisereel.pipeline import TextToVideo

pytestmark = pytest.mark.usefixtures("few_words")


def distill(capsys: pytest.CaptureFixture[str], *arguments: Any) -> dict[str, Any]:
    assert main(["distill", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_distilled_model_reopens_with_its_steps(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three guided steps become four, for those can be halved, then two without guidance."""
    run = tmp_path / "run"
    command = [tiny_folder, "--out", run, "--steps", 2, "--clips", 16]
    alone = distill(capsys, *command, "--phase", "base")
    assert alone["finished"]
    assert sorted(path.name for path in run.iterdir()) == ["base_2", "base_4", "run.json"]
    apart = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    assert distill(capsys, *command)["finished"]
    assert all(path.stat().st_mtime_ns == then for path, then in apart.items()), "nothing is learned twice"

    pipe, teacher = (TextToVideo.from_pretrained(folder) for folder in (run / "model", tiny_folder))
    stage = pipe.system.first
    assert (stage.steps, pipe.distilled) == (2, {"base": 2})
    passes = 0

    def count(*_: Any) -> None:
        nonlocal passes
        passes += 1

    stage.net.register_forward_hook(count)
    frames = pipe("a red circle", generator=torch.Generator().manual_seed(0), output_type="pt").frames
    assert passes == 2, "one a step"
    assert frames.shape == (1, 4, 3, 16, 16)
    pairs = zip(stage.net.parameters(), teacher.system.first.net.parameters(), strict=True)
    assert any(not torch.equal(ours, theirs) for ours, theirs in pairs)
    with pytest.raises(ValueError, match="distilled to 2 steps"):
        pipe.tuned(steps=5)
    pipe.save_pretrained(tmp_path / "copy")
    assert checkpoint.read_index(tmp_path / "copy")["distilled"] == {"base": 2}
    assert main(["distill", str(tmp_path / "copy"), "--out", str(tmp_path / "again")]) == 2
    assert "was distilled before" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--steps", "0"], "--steps takes 1 or more, not 0"),
        (["--phase", "top"], "this model has no stage 'top'; its stages are base"),
        (["--stages", "base,top"], "this model has no stage 'top'; its stages are base"),
    ],
)
def test_mistakes_leave_nothing_behind(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], problem: str
) -> None:
    assert main(["distill", str(tiny_folder), "--out", str(tmp_path / "run"), *options]) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
