"""Two hundred damaged files, one at a time: each is decoded in full, or named with its reason."""

import shutil
import struct
import time
import zlib
from collections import Counter
from pathlib import Path

import pytest
from mutants import FRAMES, mutants, whole_files
from PIL import Image

from noisereel.data.check import Finding, every_frame, survey
from noisereel.data.decode import Film
from noisereel.data.guard import Failure, guarded
from noisereel.data.listing import Item
from noisereel.data.media import File
from noisereel.data.reader import read_clip

# Formats that do not say how long they are: what is left of them is a shorter video.
UNCOUNTED = (".mpg", ".webp")


def looked_at(paths: list[Path]) -> list[Finding]:
    found = []
    for path in paths:
        begun = time.monotonic()
        (one,) = guarded(every_frame, [Film(File(path))], processes=1)
        assert time.monotonic() - begun < 60, path  # ten seconds of an idle machine
        found.append(Finding(problem=one.reason) if isinstance(one, Failure) else one)
    return found


def test_whole_files_are_accepted(tmp_path: Path) -> None:
    paths = whole_files(tmp_path)
    for path, found in zip(paths, looked_at(paths), strict=True):
        assert found.problem is None, path
        assert found.probe is not None
        assert (found.probe.height, found.probe.width) == (48, 64)
        if path.suffix != ".mpg":
            assert found.probe.frames == FRAMES
            assert found.probe.seconds == pytest.approx(FRAMES / found.probe.fps, abs=0.05)
        assert read_clip(path, fps=found.probe.fps).shape[1] == FRAMES, path


def test_of_two_hundred_damaged_files_each_is_decoded_or_named(tmp_path: Path) -> None:
    paths = mutants(tmp_path, 200)
    verdicts: Counter[tuple[str, bool]] = Counter()
    for path, found in zip(paths, looked_at(paths), strict=True):
        kind = path.name.split("-")[1]
        verdicts[kind, found.problem is None] += 1
        if found.problem is None and path.suffix not in UNCOUNTED:
            assert sum(1 for _ in Film(File(path)).timed()) == FRAMES, path
        if found.problem is not None:
            assert 5 < len(found.problem) < 300
            assert found.problem.count("\n") == 0
    named = {kind for (kind, decoded), _ in verdicts.items() if not decoded}
    assert named == {"truncated", "flipped", "zeroed", "beheaded", "huge_header", "empty", "renamed"}
    assert verdicts["empty", True] == 0
    assert verdicts["truncated", True] <= 2, "a few bytes at the very end may hold nothing"


def test_bombs_are_named_before_they_go_off(tmp_path: Path) -> None:
    Image.new("1", (8, 8)).save(tmp_path / "small.png")
    data = (tmp_path / "small.png").read_bytes()
    for name, side in {"bomb.png": 20_000, "large.png": 9_000}.items():
        header = b"IHDR" + struct.pack(">II", side, side) + data[24:29]
        (tmp_path / name).write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    for name, says in {"bomb.png": "could be decompression bomb", "large.png": "claims frames of 9000x9000 pixels"}.items():
        assert says in str(looked_at([tmp_path / name])[0].problem)


def test_findings_are_kept_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = next(path for path in whole_files(tmp_path) if path.suffix == ".mp4")
    item = Item(name="one", footage=Film(File(path)))
    (first,) = survey(str(tmp_path), [item])
    (whole,) = survey(str(tmp_path), [item], whole=True)
    assert (first[1].whole, whole[1].whole) == (False, True)
    with monkeypatch.context() as patch:
        patch.setattr("noisereel.data.check.guarded", lambda *_, **__: iter(()))
        assert list(survey(str(tmp_path), [item])) == [whole], "what is known of all frames holds for the first"
        shutil.copy(path, tmp_path / "two.mp4")
    path.write_bytes(path.read_bytes()[:900])
    (again,) = survey(str(tmp_path), [item])
    assert again[1].problem
    path.unlink()
    (gone,) = survey(str(tmp_path), [item])
    assert "there is no file" in str(gone[1].problem)
