"""Places that people really have: each gives one line that says what is wrong, exit code 2, and nothing half-written."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from noisereel.cli.app import main
from noisereel.data.writer import write


def video(path: Path) -> Path:
    return write(torch.rand(3, 16, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1, path, fps=8.0)


def empty(place: Path) -> None:
    """Nothing at all."""


def captions_alone(place: Path) -> None:
    (place / "a.txt").write_text("a dog runs")


def captions_of_files_that_are_gone(place: Path) -> None:
    (place / "metadata.jsonl").write_text('{"file_name": "gone.mp4", "text": "a dog"}\n{"file_name": "lost.mp4"}\n')


def wrong_column(place: Path) -> None:
    video(place / "a.mp4")
    (place / "metadata.csv").write_text("clipname,words\na.mp4,a dog\n")


def twice(place: Path) -> None:
    (place / "a.mp4").write_bytes(b"no video")
    (place / "metadata.csv").write_text("file_name,text\na.mp4,a dog\na.mp4,a cat\n")


def outside(place: Path) -> None:
    video(place.parent / "secret.mp4")
    (place / "metadata.csv").write_text("file_name,text\n../secret.mp4,a dog\n")


def circle(place: Path) -> None:
    (place / "again").symlink_to(place)


def absolute_member(place: Path) -> None:
    with tarfile.open(place / "a.tar", "w") as tar:
        info = tarfile.TarInfo("/etc/a.mp4")
        info.size = 4
        tar.addfile(info, io.BytesIO(b"four"))


def bomb(place: Path) -> None:
    """A png of a few kilobytes that claims 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    header = (60_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    rows = zlib.compress(bytes(10**6))
    (place / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b""))


def packed_bomb(place: Path) -> None:
    with tarfile.open(place / "a.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("a.mp4")
        info.size = 10**6
        tar.addfile(info, io.BytesIO(bytes(10**6)))


def pickled(place: Path) -> None:
    np.save(place / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)


def too_short(place: Path) -> None:
    video(place / "a.mp4")


CASES: list[tuple[Callable[[Path], None], str]] = [
    (empty, "it is empty"),
    (captions_alone, "there is no video or image of that name beside it"),
    (captions_of_files_that_are_gone, "it names gone.mp4, which is not there"),
    (wrong_column, "it names no file: it has clipname, words, not file_name or"),
    (twice, "it names a.mp4, which was named before"),
    (outside, "it names ../secret.mp4, which is outside the folder"),
    (circle, "this link leads to a folder that was looked through before"),
    (absolute_member, "its path leads out of the tar"),
    (bomb, "could be decompression bomb"),
    (packed_bomb, "files that end in .gz are not read"),
    (pickled, "this array cannot be used: "),
    (too_short, "it lasts 2.00 s: too short for 100 frames"),
]


@pytest.mark.parametrize(("make", "says"), CASES, ids=[make.__name__ for make, _ in CASES])
def test_every_command_says_what_is_wrong_in_one_line(
    make: Callable[[Path], None], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "place"
    place.mkdir()
    make(place)
    assert main(["data", "inspect", "place", "--frames", "100", "--fps", "8", "--size", "8x8"]) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("noisereel: place: none of what is there gives")
    assert says in out or says == "it is empty"
    assert main(["prepare", "place", "--out", "out", "--model", "none", "--seconds", "50:"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("noisereel: place gives no scene to train on: ")
    assert says in line or make is too_short
    assert not (tmp_path / "out" / "prepared.json").exists()
    if make is too_short:  # for this it would do
        return
    assert main(["train", "vdm", "--size", "tiny", "--data", "place", "--out", "run"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("noisereel: place gives no ")
    assert says in line
    assert not (tmp_path / "run").exists()


def test_a_disk_without_room_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    video(place / "a.mp4")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("noisereel.data.prepared.Looks.add", full)
    assert main(["prepare", str(place), "--out", str(tmp_path / "out"), "--model", "none"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "No space left on device" in line
