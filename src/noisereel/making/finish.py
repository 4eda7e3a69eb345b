"""From a sampled video to a file: what ``generate`` and ``decode`` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisereel.data.transparency import transparent
from noisereel.data.writer import checked, write
from noisereel.making.credentials import Signing
from noisereel.types import Video


@dataclass(frozen=True, kw_only=True)
class Finish:
    """How the files of one command are written."""

    fps: float
    scale: int
    sheet: bool
    transparent: bool
    signing: tuple[str, str] | None = None  # certificates and key that content credentials are signed with

    def check(self, path: Path, size: tuple[int, int]) -> None:
        """Refuse what could not be written, before it is sampled.

        Raises:
            ValueError: an ending that cannot hold a video of this kind, rate or size (height, width).
        """
        height, width = size
        size = height * self.scale, width * self.scale
        checked(path, sheet=self.sheet, fps=self.fps, transparent=self.transparent, size=size)
        if self.signing is not None:
            signer(self.signing).check(path)

    def write(self, video: Video, path: Path, note: Mapping[str, Any]) -> Path:
        """One finished video to its file, with the note inside.

        Raises:
            ValueError: its ground should be transparent but is not plain; the file is written all the same, opaque.
        """
        (alone,) = video.float().cpu()
        problem: ValueError | None = None
        if self.transparent:
            try:
                alone = transparent(alone)
            except ValueError as error:
                problem = error
        write(alone, path, fps=self.fps, scale=self.scale, sheet=self.sheet, metadata=note)
        if self.signing is not None:
            signer(self.signing).sign(path, note)
        if problem is not None:
            raise ValueError(f"{path} is written opaque: {problem}") from problem
        return path


def signer(files: Sequence[str]) -> Signing:
    """Of the names of its two files."""
    certificates, key = map(Path, files)
    return Signing(certificates=certificates, key=key)
