"""Where the bytes of a video or image lie: in a file, in a part of a larger one such as a tar, or in a cell of a table."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

VIDEO_ENDINGS = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ogv")
STILL_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp")
IMAGE_ENDINGS = (".gif", ".webp", ".apng", *STILL_ENDINGS)  # FFmpeg cannot read animated WebP, Pillow can
MEDIA_ENDINGS = (*VIDEO_ENDINGS, *IMAGE_ENDINGS)
Bytes = io.RawIOBase | io.BufferedIOBase  # an open file, or what can be read and sought like one


@runtime_checkable
class Media(Protocol):
    """Bytes that can be opened as often as wanted; ``str`` of it is what a person would look for."""

    @property
    def ending(self) -> str:
        """In lower case with its dot: it says who decodes the bytes."""
        ...

    def stamp(self) -> str:
        """Another one whenever the bytes may have changed."""
        ...

    def open(self) -> Bytes: ...


@dataclass(frozen=True)
class File:
    """All of a file."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def ending(self) -> str:
        return self.path.suffix.lower()

    def stamp(self) -> str:
        facts = self.path.stat()
        return f"{facts.st_size} {facts.st_mtime_ns}"

    def open(self) -> Bytes:
        return self.path.open("rb")


@dataclass(frozen=True, kw_only=True)
class Section:
    """``size`` bytes of a file from ``offset`` on, read where they lie: a member of a tar is never extracted."""

    path: Path
    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.path}:{self.name}"

    @property
    def ending(self) -> str:
        return PurePosixPath(self.name).suffix.lower()

    def stamp(self) -> str:
        return f"{File(self.path).stamp()} {self.offset} {self.size}"

    def open(self) -> Bytes:
        return _Window(self.path.open("rb"), self.offset, self.size)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Bytes in a row of a table, fetched when they are needed."""

    table: str
    name: str
    row: int
    fetch: Callable[[int], bytes]

    def __str__(self) -> str:
        return f"{self.table}, row {self.row}: {self.name}"

    @property
    def ending(self) -> str:
        return PurePosixPath(self.name).suffix.lower()

    def stamp(self) -> str:
        return f"{self.table} {self.row}"

    def open(self) -> Bytes:
        return io.BytesIO(self.fetch(self.row))


class _Window(io.RawIOBase):
    """A part of a file as a file."""

    def __init__(self, file: Bytes, offset: int, size: int) -> None:
        self._file, self._offset, self._size, self._at = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        self._file.seek(self._offset + self._at)
        part = self._file.read(left if size < 0 else min(size, left))
        self._at += len(part)
        return part

    def close(self) -> None:
        self._file.close()
        super().close()
