import json
import tarfile
from pathlib import Path

import pytest
import torch

from noisereel.cli.app import main
from noisereel.data.writer import write

WANTED = ("--frames", "4", "--size", "8x8", "--fps", "8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "clips"
    place.mkdir()
    for number in range(3):
        write(torch.full((3, 6, 8, 8), number / 4), place / f"{number}.mp4", fps=8.0)
    (place / "0.txt").write_text("nothing much")
    (place / "2.mp4").write_bytes(b"\0" * 100)
    return place


def test_inspect_tells_what_is_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "inspect", str(folder), *WANTED]) == 0
    told = capsys.readouterr().out.splitlines()
    facts = {line[:16].strip(): line[16:] for line in told if line[:1].isalpha()}
    assert facts["layout"] == "files, captions in .txt files beside them"
    assert [facts[name] for name in ("videos", "damaged", "captioned", "used", "not used")] == ["2", "1", "1", "2", "1"]
    assert told[-1].startswith("  2.mp4: ")
    assert main(["data", "inspect", str(folder), "--json", "--quick", *WANTED]) == 0
    (out,) = capsys.readouterr().out.splitlines()
    assert json.loads(out)["used"] == 2


def test_nothing_usable_is_a_mistake_that_names_each_reason(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "inspect", str(folder), "--frames", "100"]) == 2
    out, err = capsys.readouterr()
    assert "0.mp4: it lasts 0.75 s: too short for 100 frames at 16 fps" in out
    assert err.strip() == f"noisereel: {folder}: none of what is there gives clips of 100 frames of 64x64 at 16 fps"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "say what to do: noisereel data inspect, convert or cache"),
        (["inspekt"], "data cannot inspekt, only inspect, convert and cache; did you mean inspect?"),
        (["inspect", "nowhere"], "there is no folder or file nowhere"),
        (["inspect", "clips", "--size", "large"], "--size is height x width, such as 64x64, not 'large'"),
        (["inspect", "clips", "--frames", "0"], "all must be positive"),
        (["convert", "clips", "out", "--to", "mp3"], "invalid choice: 'mp3'"),
        (["convert", "clips", "clips", "--to", "folder"], "clips is there already"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], says: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder.parent)
    assert main(["data", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_convert_writes_what_is_not_damaged(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "convert", str(folder), str(tmp_path / "tars"), "--to", "webdataset"]) == 0
    assert "2.mp4" in capsys.readouterr().out
    with tarfile.open(tmp_path / "tars" / "000000.tar") as tar:
        assert tar.getnames() == ["000000.mp4", "000000.json", "000001.mp4", "000001.json"]
