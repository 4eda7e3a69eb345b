"""Frames laid out in one picture, and the JSON that tells a game engine where each of them lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from einops import rearrange
from jaxtyping import UInt8

from noisereel import __version__

Frames = UInt8[np.ndarray, "t h w c"]  # c is 3, or 4 with alpha
_ONE_ROW = 8  # frames


def tiled(frames: Frames, gap: int) -> UInt8[np.ndarray, "rows_h columns_w c"]:
    """The frames in reading order, ``gap`` pixels apart; what is left over is white, or transparent where there is alpha."""
    count, _, _, channels = frames.shape
    columns, rows = layout(count)
    blank = 0 if channels == 4 else 255
    spare = ((0, rows * columns - count), (0, gap), (0, gap), (0, 0))
    cells = np.pad(frames, spare, constant_values=blank)
    sheet = rearrange(cells, "(rows columns) h w c -> (rows h) (columns w) c", rows=rows)
    return sheet[: len(sheet) - gap, : sheet.shape[1] - gap]


def layout(count: int) -> tuple[int, int]:
    """Columns and rows of a sheet: one row where it stays short, else about square."""
    columns = count if count <= _ONE_ROW else math.ceil(math.sqrt(count))
    return columns, math.ceil(count / columns)


def atlas(frames: Frames, durations: Sequence[int], image: str) -> dict[str, Any]:
    """Where each frame lies in ``tiled(frames, gap=0)``, as Aseprite exports it (JSON, array), with durations in milliseconds.

    The names of the frames are their numbers, by which Phaser's ``createFromAseprite`` looks them up, and one tag named after
    the image makes all of them an animation.
    """
    count, height, width, channels = frames.shape
    columns, rows = layout(count)
    size = {"w": width, "h": height}
    cells = [
        {
            "filename": f"{number}",
            "frame": {"x": number % columns * width, "y": number // columns * height, **size},
            "rotated": False,
            "trimmed": False,
            "spriteSourceSize": {"x": 0, "y": 0, **size},
            "sourceSize": size,
            "duration": duration,
        }
        for number, duration in enumerate(durations)
    ]
    tag = {"name": image.rpartition(".")[0], "from": 0, "to": count - 1, "direction": "forward"}
    meta = {
        "app": "noisereel",
        "version": __version__,
        "image": image,
        "format": "RGBA8888" if channels == 4 else "RGB888",
        "size": {"w": columns * width, "h": rows * height},
        "scale": "1",
        "frameTags": [tag],
    }
    return {"frames": cells, "meta": meta}
