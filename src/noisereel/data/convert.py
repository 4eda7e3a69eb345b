"""The clips of a place in another layout, whole or not at all."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from noisereel.data.arrays import LARGEST_NPZ, Stack
from noisereel.data.check import survey
from noisereel.data.decode import Excerpt, Film, Footage, Probe
from noisereel.data.inspect import Report
from noisereel.data.layouts.detect import listed
from noisereel.data.listing import Item, Skipped, reasons
from noisereel.data.want import Want

SHARD = 2**30  # bytes of a tar, about

Clips = list[tuple[Item, Probe]]


def convert(place: str | Path, out: str | Path, layout: str, want: Want, *, report: Report | None = None) -> dict[str, Any]:
    """Write the clips of ``place`` to ``out`` in one of ``LAYOUTS``; damaged ones are left out and named.

    A folder and WebDataset hold the bytes as they are; an .npz holds each clip's beginning as it is wanted. What is written
    has another name until it is whole.

    Raises:
        ValueError: nothing can be converted, something is in the way, or the layout cannot hold it.
    """
    write, path = LAYOUTS[layout], Path(out)
    half = path.with_name(f"{path.name}.part")
    for there in (path, half):
        if there.exists():
            left = "; an earlier convert was killed, or is still at it" if there == half else ""
            raise ValueError(f"{there} is there already{left}: choose another name, or remove it")
    if layout == "npz" and path.suffix != ".npz":
        raise ValueError(f"{path} should end in .npz")
    listing = listed(place)
    if layout != "npz" and (scene := next((item for item in listing.items if isinstance(item.footage, Excerpt)), None)):
        raise ValueError(f"{scene.name} is a scene of a film, and --to {layout} copies whole files: use --to npz")
    clips: Clips = []
    unused = list(listing.skipped)
    for number, (item, found) in enumerate(survey(str(place), listing.items, whole=True)):
        reason = want.refusal(found) if layout == "npz" else found.problem
        if reason is None and found.probe:
            clips.append((item, found.probe))
        else:
            unused.append(Skipped(name=item.name, reason=reason or "it cannot be read"))
        if report:
            report(number / 2 / len(listing.items), item.name)
    if not clips:
        raise ValueError(f"{place} holds nothing to convert: {reasons(unused) or 'it is empty'}")
    with _whole(half, path):
        for number, (item, _) in enumerate(write(clips, half, want), start=1):
            if report:
                report((1 + number / len(clips)) / 2, item.name)
    left_out = [{"name": one.name, "reason": one.reason} for one in unused]
    return {"place": str(place), "out": str(path), "layout": layout, "clips": len(clips), "unused": left_out}


def _folder(clips: Clips, out: Path, _: Want) -> Iterator[tuple[Item, Probe]]:
    """Files by number, and ``metadata.jsonl`` with their captions and the names they had."""
    out.mkdir(parents=True)
    with (out / "metadata.jsonl").open("w", encoding="utf-8") as rows:
        for number, (item, facts) in enumerate(clips):
            name = f"{number:06d}{_ending(item.footage)}"
            with (out / name).open("wb") as file:
                _copy(item.footage, file)
            rows.write(json.dumps({"file_name": name, "text": item.caption, "source": item.name}, ensure_ascii=False) + "\n")
            yield item, facts


def _webdataset(clips: Clips, out: Path, _: Want) -> Iterator[tuple[Item, Probe]]:
    """Tars of about a gigabyte, each with the index that saves reading its headers."""
    out.mkdir(parents=True)
    for shard, part in enumerate(_shards(clips)):
        path, lines = out / f"{shard:06d}.tar", []
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
            for number, (item, facts) in part:
                video = io.BytesIO()
                _copy(item.footage, video)
                about = json.dumps({"text": item.caption, "source": item.name}, ensure_ascii=False).encode()
                members = {_ending(item.footage): video.getvalue(), ".json": about}
                lines.append(" ".join(_added(tar, f"{number:06d}{ending}", data) for ending, data in members.items()))
                yield item, facts
        path.with_suffix(".idx").write_text("\n".join([f"v1.2 {len(lines)}", *lines]) + "\n")


def _shards(clips: Clips) -> Iterator[list[tuple[int, tuple[Item, Probe]]]]:
    part: list[tuple[int, tuple[Item, Probe]]] = []
    size = 0
    for number, (item, facts) in enumerate(clips):
        if not isinstance(item.footage, Film):
            raise ValueError(f"{item.name} is an array, which a WebDataset of videos cannot hold: use --to folder or npz")
        part.append((number, (item, facts)))
        with item.footage.media.open() as file:
            size += file.seek(0, io.SEEK_END)
        if size > SHARD:
            yield part
            part, size = [], 0
    if part:
        yield part


def _npz(clips: Clips, out: Path, want: Want) -> Iterator[tuple[Item, Probe]]:
    """One array of bytes, clips by frames by rows by columns by channels, with captions and rate."""
    from noisereel.data.reader import read_clip

    shape = (len(clips), want.frames, want.height, want.width, want.channels)
    if (size := int(np.prod(shape, dtype=np.int64))) > LARGEST_NPZ:
        raise ValueError(f"an .npz of {size / 2**30:.1f} GiB would be too large to open: ask for smaller clips, or --to folder")
    videos = np.empty(shape, np.uint8)
    for number, (item, facts) in enumerate(clips):
        rate = want.rate(facts)
        size_ = dict(frames=want.frames, height=want.height, width=want.width)
        video = read_clip(item.footage, **size_, fps=rate, facts=facts)
        videos[number] = ((video + 1) * 127.5).round().byte().permute(1, 2, 3, 0).numpy()
        yield item, facts
    out.parent.mkdir(parents=True, exist_ok=True)
    captions = [item.caption or "" for item, _ in clips]
    names = [item.name for item, _ in clips]
    with out.open("wb") as file:
        np.savez_compressed(file, video=videos, axes="nthwc", fps=want.fps, captions=captions, names=names)


LAYOUTS: dict[str, Callable[[Clips, Path, Want], Iterator[tuple[Item, Probe]]]] = {
    "folder": _folder,
    "webdataset": _webdataset,
    "npz": _npz,
}


@contextmanager
def _whole(half: Path, path: Path) -> Iterator[None]:
    try:
        yield
        half.rename(path)
    except BaseException:
        shutil.rmtree(half) if half.is_dir() else half.unlink(missing_ok=True)
        raise


def _ending(footage: Footage) -> str:
    return footage.media.ending if isinstance(footage, Film) else ".npz"


def _copy(footage: Footage, file: Any) -> None:
    if isinstance(footage, Film):
        with footage.media.open() as source:
            shutil.copyfileobj(source, file)
        return
    assert isinstance(footage, Stack)
    pictures = np.stack([frame.picture() for frame in footage.timed()])
    said: dict[str, Any] = {"axes": "thwc", "range": (0, 255) if pictures.dtype == np.uint8 else (-1, 1)}
    said |= {"fps": footage.fps} if footage.fps else {}
    np.savez_compressed(file, video=pictures, **said)


def _added(tar: tarfile.TarFile, name: str, data: bytes) -> str:
    """Adds a member; what the index says of it."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    offset = tar.offset + tarfile.BLOCKSIZE
    tar.addfile(info, io.BytesIO(data))
    return f"{name.split('.')[-1]} {offset} {len(data)} {name}"
