"""Arrays of clips, and what they say of themselves.

An ``.npz`` may hold, a zarr store may have as attributes, and a ``.json`` beside a ``.npy`` may say: ``axes`` (such as
"nthwc"), ``range`` (the numbers for black and white), ``fps``, and ``captions``, one for each clip.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from noisereel.data.arrays import AXES, Array, Stack, guessed_axes, guessed_range, npz, zarr_at
from noisereel.data.listing import Item, Listing, Skipped
from noisereel.data.media import File, Media

ARRAY_ENDINGS = (".npy", ".npz", ".zarr")
_NAMES = ("video", "videos", "clips", "frames", "data", "arr_0")  # of the array, where there are several


def is_zarr(path: Path) -> bool:
    """Whether a folder is a zarr store."""
    return path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zarray", ".zgroup"))


def array_listing(path: Path, name: str, caption: str | None = None) -> Listing:
    """The clips of a file or store of arrays, captioned by what it says itself or by the given lines."""
    try:
        media: Media | Path = path if path.is_dir() else File(path)
        array, notes = _opened(media)
        return _listed(array, notes, name, caption)
    except (ValueError, KeyError, OSError, EOFError) as error:
        return Listing(layout="an array", skipped=[Skipped(name=name, reason=f"this array cannot be used: {error}")])


def _opened(media: Media | Path) -> tuple[Array, Mapping[str, Any]]:
    if isinstance(media, Path):
        store = zarr_at(media)
        held = dict(store.arrays()) if hasattr(store, "arrays") else {}
        key = _chosen({name: array.shape for name, array in held.items()}) if held else None
        notes = {name: array[...] for name, array in held.items() if name != key and array.size < 1_000_000}
        return Array(media=media, key=key), {**notes, **dict(store.attrs), **(dict(held[key].attrs) if key else {})}
    if media.ending == ".npz":
        arrays = npz(media)
        key = _chosen({str(name): array.shape for name, array in arrays.items()})
        return Array(media=media, key=key), {str(name): array for name, array in arrays.items() if name != key}
    beside = media.path.with_suffix(".json") if isinstance(media, File) else None
    return Array(media=media), json.loads(beside.read_text()) if beside and beside.is_file() else {}


def _chosen(shapes: Mapping[str, tuple[int, ...]]) -> str:
    large = [name for name, shape in shapes.items() if len(shape) >= 3]
    found = next((name for name in (*_NAMES, *(large if len(large) == 1 else ())) if name in large), None)
    if found is None:
        raise ValueError(f"it holds {', '.join(shapes) or 'nothing'}: call the array of clips {' or '.join(_NAMES)}")
    return found


def _listed(array: Array, notes: Mapping[str, Any], name: str, caption: str | None) -> Listing:
    numbers = array.load()
    shape, dtype = tuple(numbers.shape), np.dtype(numbers.dtype)
    axes = str(notes["axes"]).replace(" ", "") if "axes" in notes else guessed_axes(shape)
    if sorted(axes) != sorted(set(axes) & set("nthwc")) or len(axes) != len(shape) or not {"h", "w"} <= set(axes):
        raise ValueError(f"axes {axes!r} do not fit its shape {shape}: name each once, of {AXES}")
    if 0 in shape:
        raise ValueError(f"its shape is {shape}: there is nothing in it")
    low, high = map(float, notes["range"]) if "range" in notes else guessed_range(numbers, dtype)
    if not low < high:
        raise ValueError(f"its range is {low:g} to {high:g}: give the number for black, then the larger one for white")
    fps = float(notes["fps"]) if "fps" in notes else None
    if fps is not None and not fps > 0:
        raise ValueError(f"its fps is {fps:g}: give a positive number, or none")
    clips = shape[axes.index("n")] if "n" in axes else 1
    captions = _captions(notes, caption, clips)
    items = [
        Item(
            name=f"{name}[{row}]" if "n" in axes else name,
            footage=Stack(array=array, axes=axes, row=row, low=low, high=high, fps=fps),
            caption=captions[row],
        )
        for row in range(clips)
    ]
    said = "" if "axes" in notes else ", guessed by the shape"
    pace = f"{fps:g} fps" if fps else "no frame rate: taken frame by frame"
    layout = f"an array, {dtype}, axes {' '.join(axes)}{said}, {low:g} is black and {high:g} white, {pace}"
    return Listing(layout=layout, items=items)


def _captions(notes: Mapping[str, Any], beside: str | None, clips: int) -> list[str | None]:
    held = notes.get("captions", notes.get("caption"))
    if held is None and beside is not None:
        held = beside.splitlines() if clips > 1 else [beside]
    if held is None:
        return [None] * clips
    held = held.tolist() if isinstance(held, np.ndarray) else held
    texts = [(str(text or "").strip() or None) for text in (held if isinstance(held, list | tuple) else [held])]
    if len(texts) != clips:
        raise ValueError(f"it has {len(texts)} captions for {clips} clips: write one for each, empty where there is none")
    return texts
