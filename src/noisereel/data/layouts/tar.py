"""WebDataset: tars whose members of one name belong together, ``0001.mp4`` and ``0001.txt`` or ``0001.json``.

Members are read where they lie. An index beside the tar, ``.idx`` as DALI's wds2idx writes it, saves reading its headers.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from noisereel.data.decode import Film
from noisereel.data.listing import Item, Listing, Skipped, caption_of
from noisereel.data.media import MEDIA_ENDINGS, Section

_TEXTS = (".txt", ".json", ".caption")
_PACKED = (".tar.gz", ".tgz", ".tar.zst", ".tar.bz2", ".tar.xz")


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file in a tar."""

    name: str
    offset: int
    size: int

    @property
    def key(self) -> str:
        """What members that belong together share: the path up to the first dot of the name."""
        path = PurePosixPath(self.name)
        return str(path.parent / path.name.split(".")[0])

    @property
    def ending(self) -> str:
        return PurePosixPath(self.name).suffix.lower()


def is_packed(path: Path) -> bool:
    """Whether it is a tar that has to be unpacked before a member can be found in it."""
    return path.name.lower().endswith(_PACKED)


def tar_listing(shards: list[Path]) -> Listing:
    """The clips of all shards, with their captions."""
    items: list[Item] = []
    skipped: list[Skipped] = []
    indexed = 0
    for shard in shards:
        index = shard.with_suffix(".idx")
        try:
            members = list(indexed_members(shard, index) if index.is_file() else scanned_members(shard))
        except (ValueError, OSError, tarfile.TarError) as error:
            skipped.append(Skipped(name=str(shard), reason=f"this tar cannot be read: {error}"))
            continue
        indexed += index.is_file()
        found = _grouped(shard, members, prefix=f"{shard.name}:" if len(shards) > 1 else "")
        items += found.items
        skipped += found.skipped
    by = f", {indexed} with an index" if indexed else ""
    return Listing(layout=f"WebDataset, {len(shards)} tar{by}", items=items, skipped=skipped)


def scanned_members(shard: Path) -> Iterator[Member]:
    """The files of a tar by its own headers."""
    with tarfile.open(shard, "r:") as tar:
        for info in tar:
            if info.isfile():
                yield Member(name=info.name, offset=info.offset_data, size=info.size)
    if tar.offset > shard.stat().st_size:  # a member that is cut off is the last, and its header still whole
        raise ValueError("its last member is cut off: copy it anew")


def indexed_members(shard: Path, index: Path) -> Iterator[Member]:
    """The files of a tar by its index: after a first line, ``ending offset size name key:ending ...`` for each sample.

    Raises:
        ValueError: an index of another version, or of another tar.
    """
    version, *lines = index.read_text(encoding="utf-8").splitlines()
    if not version.startswith("v1.2"):
        raise ValueError(f"{index.name} begins with {version!r}: only v1.2 names its members; write it anew or remove it")
    with tarfile.open(shard, "r:") as tar:
        for line in lines:
            fields = line.split()
            for ending, offset, size, name in zip(*(fields[i::4] for i in range(4)), strict=True):
                tar.fileobj.seek(int(offset) - tarfile.BLOCKSIZE)
                header = tar.fileobj.read(tarfile.BLOCKSIZE)
                if header[:100].rstrip(b"\0") != name.encode()[:100] or not name.endswith(ending):
                    raise ValueError(f"{index.name} says that {name} is at {offset}, where it is not: remove the index")
                yield Member(name=name, offset=int(offset), size=int(size))


def _grouped(shard: Path, members: list[Member], prefix: str) -> Listing:
    skipped: list[Skipped] = []
    groups: dict[str, dict[str, Member]] = {}
    for member in members:
        reason = None
        if PurePosixPath(member.name).is_absolute() or ".." in PurePosixPath(member.name).parts:
            reason = "its path leads out of the tar"
        elif member.ending not in (*MEDIA_ENDINGS, *_TEXTS):
            reason = f"members that end in {member.ending or 'nothing'} are not read"
        elif member.ending in groups.setdefault(member.key, {}):
            reason = "there is another of the same name before it"
        if reason:
            skipped.append(Skipped(name=f"{shard}:{member.name}", reason=reason))
        else:
            groups[member.key][member.ending] = member
    items: list[Item] = []
    for key, parts in groups.items():
        found = _sample(shard, f"{prefix}{key}", parts) if parts else None
        if isinstance(found, Item):
            items.append(found)
        elif found:
            skipped.append(found)
    return Listing(layout="WebDataset", items=items, skipped=skipped)


def _sample(shard: Path, key: str, parts: dict[str, Member]) -> Item | Skipped:
    media = next((parts[ending] for ending in MEDIA_ENDINGS if ending in parts), None)
    if media is None:
        return Skipped(name=f"{shard}:{key}", reason="it has a caption and no video or image")
    try:
        caption = _caption(shard, parts)
    except ValueError as error:
        return Skipped(name=f"{shard}:{key}", reason=f"its caption cannot be read: {error}")
    return Item(name=key, footage=Film(_section(shard, media)), caption=caption)


def _caption(shard: Path, parts: dict[str, Member]) -> str | None:
    for ending in _TEXTS:
        if ending in parts:
            with _section(shard, parts[ending]).open() as file:
                text = file.read().decode("utf-8-sig").strip()
            row = json.loads(text) if ending == ".json" else {"text": text}
            if caption := caption_of(row if isinstance(row, dict) else {"text": row}):
                return caption
    return None


def _section(shard: Path, member: Member) -> Section:
    return Section(path=shard, name=member.name, offset=member.offset, size=member.size)
