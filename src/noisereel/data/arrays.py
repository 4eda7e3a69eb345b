"""Stacks: clips that are stored as arrays, with any number of channels, in .npy, .npz and zarr."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from noisereel.data.decode import Picture, Probe, Timed
from noisereel.data.media import File, Media

LARGEST_NPZ = 2 * 2**30  # bytes; an .npz is unpacked whole, so what is larger belongs in .npy or zarr
AXES = "n clips, t frames, h rows, w columns, c channels"
_AT_ONCE = 32  # frames fetched together: a chunk of zarr usually holds several
_SLACK = 1e-3  # of the range; rounding may lead a little out of it


@dataclass(frozen=True, kw_only=True)
class Array:
    """An array on disk: ``key`` names it among others of a .npz or zarr group."""

    media: Media | Path  # a zarr store is a folder
    key: str | None = None

    def __str__(self) -> str:
        return f"{self.media}" + (f", {self.key}" if self.key else "")

    def stamp(self) -> str:
        media = File(self.media) if isinstance(self.media, Path) else self.media
        return f"{media.stamp()} {self.key}"

    def load(self) -> Any:
        """The numbers, to be sliced; read when they are wanted, but for .npz, which is unpacked. Errors: ValueError."""
        return _loaded(self, self.stamp())


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One clip of an array.

    Numbers from ``low`` to ``high`` become -1 to 1. Without ``fps`` the frames are taken one by one, whatever rate is
    wanted: an array need not say how fast it was recorded.
    """

    array: Array
    axes: str  # of n, t, h, w and c, in the order of the array's
    row: int = 0  # along n
    low: float = 0.0
    high: float = 255.0
    fps: float | None = None

    def __str__(self) -> str:
        return f"{self.array}" + (f", clip {self.row}" if "n" in self.axes else "")

    def stamp(self) -> str:
        return f"{self.array.stamp()} {self.axes} {self.low} {self.high} {self.fps}"

    def probe(self) -> Probe:
        size = dict(zip(self.axes, self.array.load().shape, strict=True))
        frames, rate = size.get("t", 1), self.fps or 1.0
        return Probe(
            frames=frames,
            fps=rate,
            height=size["h"],
            width=size["w"],
            seconds=frames / rate,
            channels=size.get("c", 1),
            rated=self.fps is not None or frames == 1,
        )

    def timed(self, start: float = 0.0) -> Iterator[Timed]:
        facts = self.probe()
        for first in range(int(start * facts.fps), facts.frames, _AT_ONCE):
            for offset, picture in enumerate(self._pictures(first, min(first + _AT_ONCE, facts.frames))):
                at = first + offset
                yield _Plate(at / facts.fps, (at + 1) / facts.fps, picture)

    def _pictures(self, first: int, last: int) -> Iterator[Picture]:
        where = {"n": self.row, "t": slice(first, last)}
        block = np.asarray(self.array.load()[tuple(where.get(axis, slice(None)) for axis in self.axes)])
        left = self.axes.replace("n", "")
        for axis in "tc":
            if axis not in left:
                block, left = block[None], axis + left
        block = block.transpose([left.index(axis) for axis in "thwc"])
        if block.dtype == np.uint8 and (self.low, self.high) == (0, 255):
            yield from block
            return
        shares = (block.astype(np.float32) - self.low) / (self.high - self.low)
        if not (shares.min() >= -_SLACK and shares.max() <= 1 + _SLACK):  # NaN is neither
            held = f"{block.min():g} to {block.max():g} in frames {first} to {last - 1}"
            raise ValueError(f"{self} holds {held}, outside its range of {self.low:g} to {self.high:g}")
        yield from shares * 2 - 1


@dataclass(frozen=True)
class _Plate:
    start: float
    end: float
    shown: Picture

    def picture(self) -> Picture:
        return self.shown


def guessed_axes(shape: tuple[int, ...]) -> str:
    """The axes of an array that does not say what they are.

    Raises:
        ValueError: nothing that a clip has.
    """
    if len(shape) == 3:
        return "thw"
    if len(shape) == 4:
        return "thwc" if shape[3] <= 4 else "tchw" if shape[1] <= 4 else "nthw"
    if len(shape) == 5:
        return min(("nthwc", "ncthw", "ntchw"), key=lambda axes: shape[axes.index("c")])
    raise ValueError(f"an array of {len(shape)} axes {shape} is no clip: it takes 3 to 5 of {AXES}")


def guessed_range(array: Any, dtype: np.dtype) -> tuple[float, float]:
    """Which numbers are black and white in an array that does not say so: of floats, by its first and last numbers.

    Raises:
        ValueError: no convention has numbers like these.
    """
    if dtype == np.uint8:
        return 0.0, 255.0
    if dtype == np.bool_:
        return 0.0, 1.0
    ends = [np.asarray(array[at], np.float64) for at in (0, -1)] if len(array) else [np.zeros(1)]
    low, high = min(end.min() for end in ends), max(end.max() for end in ends)
    if dtype.kind == "f" and low >= -1 - _SLACK and high <= 1 + _SLACK:
        return (0.0, 1.0) if low >= 0 else (-1.0, 1.0)
    raise ValueError(f"it holds {dtype} from {low:g} to {high:g}: say which are black and white, as range: [low, high]")


@lru_cache(maxsize=4)
def _loaded(array: Array, _stamp: str) -> Any:
    if isinstance(array.media, Path):
        found = zarr_at(array.media)
        return found[array.key] if array.key else found
    if array.media.ending == ".npz":
        return npz(array.media)[array.key]
    if isinstance(array.media, File):
        return np.load(array.media.path, mmap_mode="r", allow_pickle=False)
    with array.media.open() as file:
        return np.load(file, allow_pickle=False)


def npz(media: Media) -> Mapping[str | None, Any]:
    """The arrays of an .npz. Errors: ValueError for one that would not fit in memory, or holds Python objects."""
    with media.open() as file:
        try:
            unpacked = sum(info.file_size for info in zipfile.ZipFile(file).infolist())
        except zipfile.BadZipFile as error:
            raise ValueError(f"it is not a whole .npz: {error}") from error
        if unpacked > LARGEST_NPZ:
            raise ValueError(f"it unpacks to {unpacked / 2**30:.1f} GiB: save what is so large as .npy or zarr, read in parts")
        file.seek(0)
        with np.load(file, allow_pickle=False) as held:
            return {name: held[name] for name in held.files}


def zarr_at(path: Path) -> Any:
    """A zarr array or group. Errors: ValueError where zarr is not installed, or the folder is none."""
    try:
        import zarr
    except ImportError as error:
        raise ValueError("zarr is needed to read it: pip install 'noisereel[datasets]'") from error
    try:
        return zarr.open(str(path), mode="r")
    except (ValueError, KeyError, FileNotFoundError) as error:
        raise ValueError(f"it is no zarr store: {error}") from error
