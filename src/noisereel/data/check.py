"""What is known of a piece of footage: by its header and first frame, or by all of its frames; and kept for the next time."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from noisereel.data.cache import cache_folder
from noisereel.data.decode import Film, Footage, Probe, cut_short
from noisereel.data.guard import Failure, alive, guarded
from noisereel.data.listing import Item

_FORMAT = 1  # of what is kept; another number and it is looked for again


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What looking at footage found."""

    probe: Probe | None = None  # None where it cannot even be opened
    problem: str | None = None  # why it should not be used
    whole: bool = False  # all frames were decoded
    digest: str = ""  # of its bytes, if so: copies have the same
    bytes: int = 0  # how many they are


def first_frame(footage: Footage) -> Finding:
    """By the header and the first frame."""
    try:
        return Finding(probe=footage.probe())
    except (ValueError, OSError) as error:
        return Finding(problem=reason(error, footage))


def every_frame(footage: Footage) -> Finding:
    """By every frame, decoded and thrown away."""
    found = replace(first_frame(footage), whole=True)
    if found.probe is None:
        return found
    end = 0.0
    try:
        for frame in footage.timed():
            end = max(end, frame.end)
            alive()
        return replace(found, problem=cut_short(found.probe, end), **bytes_of(footage))
    except (ValueError, OSError) as error:
        return replace(found, problem=reason(error, footage))


def survey(place: str, items: Sequence[Item], *, whole: bool = False, processes: int = 0) -> Iterator[tuple[Item, Finding]]:
    """A finding for each item in turn, by its first frame or by the whole of it; what is known from before is not redone."""
    known = _Known(place)
    stamps = [_stamp(item) for item in items]
    new = [item for item, stamp in zip(items, stamps, strict=True) if not known.has(stamp, whole)]
    look = every_frame if whole else first_frame
    fresh = guarded(look, [item.footage for item in new], processes=processes)
    for item, stamp in zip(items, stamps, strict=True):
        if not known.has(stamp, whole):
            found = next(fresh)
            known.add(stamp, Finding(problem=found.reason, whole=whole) if isinstance(found, Failure) else found)
        yield item, known.findings[stamp]


class _Known:
    """Findings of a place, kept between runs, a line for each; where nothing can be written nothing is kept."""

    def __init__(self, place: str) -> None:
        name = hashlib.sha256(f"{_FORMAT} {os.path.abspath(place)}".encode()).hexdigest()[:16]
        self.path = cache_folder() / "footage" / f"{name}.jsonl"
        self.findings: dict[str, Finding] = {}
        with suppress(OSError):
            for line in self.path.read_text(encoding="utf-8").splitlines():
                with suppress(ValueError, TypeError, KeyError):  # the last line may be cut off
                    row = json.loads(line)
                    stamp = row.pop("stamp")
                    self.findings[stamp] = _finding(row)

    def has(self, stamp: str, whole: bool) -> bool:
        return stamp in self.findings and (self.findings[stamp].whole or not whole)

    def add(self, stamp: str, found: Finding) -> None:
        self.findings[stamp] = found
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"stamp": stamp, **asdict(found)}) + "\n")


def _finding(row: dict[str, Any]) -> Finding:
    return Finding(**{**row, "probe": row["probe"] and Probe(**row["probe"])})


def _stamp(item: Item) -> str:
    footage = item.footage
    try:
        return f"{os.path.abspath(str(footage))} {footage.stamp()}"
    except OSError:
        return f"{footage} {item.name}"


def bytes_of(footage: Footage) -> dict[str, Any]:
    digest, size = hashlib.blake2b(digest_size=16), 0
    for part in _parts(footage):
        digest.update(part)
        size += len(part)
    return {"digest": digest.hexdigest(), "bytes": size}


def _parts(footage: Footage) -> Iterator[bytes]:
    if not isinstance(footage, Film):
        yield from (frame.picture().tobytes() for frame in footage.timed())
        return
    with footage.media.open() as file:
        while part := file.read(2**20):
            yield part


def reason(error: Exception, footage: Footage) -> str:
    """The error without the name, which the reader of a report has before them."""
    return str(error).replace(f"cannot read {footage}: ", "").replace("; is it a whole video or image?", "")
