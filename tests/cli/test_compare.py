"""``noisereel compare`` and ``evaluate --report``: what they write, and what they refuse."""

import json

import pytest

from noisereel.cli.app import main
from noisereel.data import writer


def test_a_report_holds_its_numbers_and_its_videos_and_is_not_written_over(tmp_path, capsys):
    folder = tmp_path / "report"
    command = ["compare", "video_ldm", "video_ldm", "--out", str(folder), "--count", "4", "--steps", "2"]
    assert main(command) == 0
    assert str(folder / "report.html") in capsys.readouterr().out
    stored = json.loads((folder / "report.json").read_text())
    one, other = stored["reports"]
    assert one["following"]["model"] == other["following"]["model"]
    assert one["measures"] == other["measures"]
    assert one["steps"] == 2
    assert one["losses"].keys() == {f"base, t = {time}" for time in (0.1, 0.3, 0.5, 0.7, 0.9)}
    assert (folder / "report.html").read_text().count("data:image/webp;base64,") == 8
    assert writer.read_metadata(folder / "first.mp4")["models"] == ["video_ldm", "video_ldm"]
    assert main(command) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["compare", "vdm"], "--out"),
        (["compare", "--out", "x"], "MODEL"),
        (["compare", "nothing", "--out", "never"], "no model at 'nothing'"),
        (["compare", "vdm", "--out", "never", "--count", "1"], "--count takes 2 or more"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    problem = capsys.readouterr().err
    assert said in problem
    assert problem.count("\n") == 1
    assert not any(tmp_path.iterdir())
