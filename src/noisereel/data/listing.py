"""What a place holds: items with their captions, and what was passed over with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from noisereel.data.decode import Footage

# What the columns are called in the layouts that people have, best first.
FILE_COLUMNS = ("file_name", "file_path", "file", "path", "video", "video_path", "image")
CAPTION_COLUMNS = ("text", "caption", "prompt", "cap")


@dataclass(frozen=True, kw_only=True)
class Item:
    """One video or image, and its caption if it has one."""

    name: str  # as its owner knows it, unique within a listing
    footage: Footage
    caption: str | None = None
    digest: str = ""  # of what it holds, where that is known
    part_of: str = ""  # the item that it is a scene of


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Something that is not used, and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The items of a place, in an order that does not change unless the place does."""

    layout: str  # what the place was taken for
    items: list[Item] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    moments: int = 0  # at how many moments each is cut, in turn; 0: at another one each time


def caption_of(row: Mapping[str, Any]) -> str | None:
    """The caption in a row of metadata; of several the first."""
    found = next((row[name] for name in CAPTION_COLUMNS if row.get(name)), None)
    first = found[0] if isinstance(found, list) else found
    return str(first).strip() or None if first is not None else None


def reasons(skipped: Iterable[Skipped], most: int = 5) -> str:
    """The reasons in one line, the commonest first, each with one thing that it holds for."""
    skipped = list(skipped)
    counts = Counter(one.reason for one in skipped)
    named = {one.reason: one.name for one in reversed(skipped)}
    parts = [
        f"{named[reason]}: {reason}" + (f" (and {count - 1} more)" if count > 1 else "")
        for reason, count in counts.most_common(most)
    ]
    rest = len(counts) - len(parts)
    return "; ".join(parts) + (f"; {rest} other reasons" if rest > 0 else "")
