"""Records kept on disk by what they are made of, written by any number of processes at once, and found again after a kill."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

KEY = 16  # bytes


@dataclass
class Store:
    """Records by key, in a folder. What is added is never changed.

    Each process that adds has a file of records of its own, and beside it a list with a line for each, written after it: its
    key, where it begins, how long it is, and its checksum. So nobody waits for anybody; a process that is killed in between
    leaves a record that no line names; and a record that does not fit its checksum counts as not there.
    """

    folder: Path
    _at: dict[bytes, tuple[str, int, int, int]] = field(default_factory=dict, repr=False)
    _read: dict[str, int] = field(default_factory=dict, repr=False)  # how far each list is known
    _files: dict[str, int] = field(default_factory=dict, repr=False)  # open ones, to read
    _own: tuple[int, Path] | None = field(default=None, repr=False)  # this process and its file

    def __post_init__(self) -> None:
        self.refresh()

    def __len__(self) -> int:
        return len(self._at)

    def __contains__(self, key: bytes) -> bool:
        return key in self._at

    def get(self, key: bytes) -> bytes | None:
        """The record of that key; None where there is none, or it is damaged."""
        if key not in self._at:
            return None
        shard, start, size, checksum = self._at[key]
        with suppress(FileNotFoundError):
            record = os.pread(self._opened(shard), size, start)
            if len(record) == size and zlib.crc32(record) == checksum:
                return record
        del self._at[key]
        return None

    def add(self, records: Mapping[bytes, bytes]) -> None:
        """Keep records, all of them or, if killed, some."""
        path = self._mine()
        with path.open("ab") as file:
            starts = [file.tell()]
            for record in records.values():
                file.write(record)
                starts.append(starts[-1] + len(record))
        rows = {
            key: (path.stem, start, len(record), zlib.crc32(record))
            for (key, record), start in zip(records.items(), starts, strict=False)
        }
        with path.with_suffix(".list").open("a") as file:
            file.write("".join(_line(key, row) for key, row in rows.items()))
        self._at |= rows

    def refresh(self) -> None:
        """Take notice of what other processes have added."""
        for path in sorted(self.folder.glob("*.list")):
            known = self._read.get(path.stem, 0)
            if path.stat().st_size > known:
                with path.open("rb") as file:
                    file.seek(known)
                    lines = file.read()
                whole = lines.rfind(b"\n") + 1  # the last line may be cut off
                self._read[path.stem] = known + whole
                self._at.update(_rows(path.stem, lines[:whole]))

    def verify(self) -> Iterator[bool]:
        """Whether each record is as it was written, in turn; those that are not are forgotten, and their lists written anew."""
        bad = set()
        for key, (shard, *_) in list(self._at.items()):
            good = self.get(key) is not None
            bad |= set() if good else {shard}
            yield good
        for shard in bad:
            rows = {key: row for key, row in self._at.items() if row[0] == shard}
            half = self.folder / f"{shard}.part"
            half.write_text("".join(_line(key, row) for key, row in rows.items()))
            half.replace(half.with_suffix(".list"))

    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.folder.glob("*") if path.is_file())

    def _mine(self) -> Path:
        if self._own is None or self._own[0] != os.getpid():  # a copy in another process is not to write in our file
            self.folder.mkdir(parents=True, exist_ok=True)
            self._own = os.getpid(), self.folder / f"{uuid4().hex[:12]}.records"
        return self._own[1]

    def _opened(self, shard: str) -> int:
        if shard not in self._files:
            self._files[shard] = os.open(self.folder / f"{shard}.records", os.O_RDONLY)
        return self._files[shard]

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"])  # type: ignore[misc]

    def __del__(self) -> None:
        for file in self._files.values():
            os.close(file)


def _line(key: bytes, row: Sequence[Any]) -> str:
    _, start, size, checksum = row
    return f"{key.hex()} {start} {size} {checksum}\n"


def _rows(shard: str, lines: bytes) -> Iterator[tuple[bytes, tuple[str, int, int, int]]]:
    for line in lines.decode("ascii", "replace").splitlines():
        parts = line.split()
        if len(parts) == 4 and len(parts[0]) == 2 * KEY and all(part.isdigit() for part in parts[1:]):
            start, size, checksum = map(int, parts[1:])
            yield bytes.fromhex(parts[0]), (shard, start, size, checksum)
