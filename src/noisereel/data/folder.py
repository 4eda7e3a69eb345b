"""A folder of videos and images as a source: captions from one metadata file, from a text beside each clip, or none."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from noisereel.data.clips import Clip
from noisereel.data.reader import IMAGE_ENDINGS, VIDEO_ENDINGS, probe, read_clip

# What the columns are called in the layouts that people have, best first.
FILE_COLUMNS = ("file_name", "file_path", "file", "path", "video", "video_path", "image")
CAPTION_COLUMNS = ("text", "caption", "prompt")

_MOVING = (*VIDEO_ENDINGS, ".gif", ".webp", ".apng")


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The clips under ``path``, cut to ``frames`` frames of ``height`` by ``width`` at ``fps``.

    Files and captions are those of ``metadata.jsonl`` or ``metadata.csv``; without one, every clip found, captioned by
    the ``.txt`` of the same name where there is one. With ``frames`` 1 it yields images and single frames of videos,
    else videos only. Index i is clip ``i % len``; each time round, a clip is cut at another moment.
    """

    path: str | Path
    frames: int
    height: int
    width: int
    fps: float

    def __post_init__(self) -> None:
        if min(self.frames, self.height, self.width) < 1 or not self.fps > 0:
            raise ValueError(
                f"clips of {self.frames} frames of {self.height}x{self.width} at {self.fps} fps: all must be positive"
            )
        if not Path(self.path).is_dir():
            raise ValueError(f"there is no folder {self.path}")
        if not self.clips:
            endings = ", ".join(_MOVING if self.frames > 1 else (*VIDEO_ENDINGS, *IMAGE_ENDINGS))
            raise ValueError(f"no clips of {self.frames} frames under {self.path}: looked for {endings}")

    @cached_property
    def clips(self) -> list[tuple[Path, str | None]]:
        """Each file with its caption."""
        endings = _MOVING if self.frames > 1 else (*VIDEO_ENDINGS, *IMAGE_ENDINGS)
        return [(path, caption or None) for path, caption in _listed(Path(self.path)) if path.suffix.lower() in endings]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Clip:
        path, caption = self.clips[index % len(self)]
        spare = max(0.0, probe(path).seconds - self.frames / self.fps)
        start = spare * np.random.default_rng(index).random()
        video = read_clip(path, frames=self.frames, height=self.height, width=self.width, fps=self.fps, start=start)
        return Clip(video=video, caption=caption, fps=self.fps)


def _listed(folder: Path) -> Iterator[tuple[Path, str | None]]:
    for name, rows in (("metadata.jsonl", _jsonl), ("metadata.csv", _csv)):
        if (folder / name).is_file():
            return (_row(folder / name, number, row) for number, row in enumerate(rows(folder / name), start=1))
    return ((path, _beside(path)) for path in sorted(folder.rglob("*")) if path.suffix.lower() != ".txt" and path.is_file())


def _jsonl(path: Path) -> Iterator[Mapping[str, str]]:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number} is {line.strip()}: write one object with file_name and text a line")
            yield row


def _csv(path: Path) -> Iterator[Mapping[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from csv.DictReader(file)


def _row(metadata: Path, number: int, row: Mapping[str, str]) -> tuple[Path, str | None]:
    file = next((row[name] for name in FILE_COLUMNS if row.get(name)), None)
    if file is None:
        raise ValueError(f"{metadata}, clip {number} names no file: it has {', '.join(row)}, not {' or '.join(FILE_COLUMNS)}")
    if not (metadata.parent / file).is_file():
        raise ValueError(f"{metadata}, clip {number} names {file}, which is not there")
    return metadata.parent / file, next((row[name] for name in CAPTION_COLUMNS if row.get(name)), None)


def _beside(path: Path) -> str | None:
    text = path.with_suffix(".txt")
    return text.read_text(encoding="utf-8").strip() if text.is_file() else None
