"""Clips of footage: resampled by timestamp to the wanted rate, size and number of frames."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, Num
from PIL import Image
from torch import Tensor

from noisereel.data.decode import Film, Footage, Picture, Probe, Timed, cut_short
from noisereel.data.media import File

_TICK = 1e-3  # seconds; containers round their timestamps, Matroska to this


def probe(path: str | Path) -> Probe:
    """The facts of a video or image file. Errors: ValueError for a missing or unreadable file."""
    return _film(path).probe()


def read_clip(
    source: str | Path | Footage,
    *,
    frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    fps: float | None = None,
    start: float = 0.0,
    facts: Probe | None = None,
) -> Float[Tensor, "c t h w"]:
    """``frames`` frames at ``fps`` from ``start`` seconds on, in [-1, 1], cropped at the centre to the wanted shape.

    What is not given is the file's own; ``facts`` saves a probe. A frame is the one nearest in time, so any rate is read
    from any other, varying ones included. Errors: ValueError for a file that is missing, unreadable, shorter than asked,
    or that ends before its container says it does.
    """
    footage = _film(source) if isinstance(source, str | Path) else source
    facts = facts or footage.probe()
    rate = fps or facts.fps
    if (height is None) != (width is None) or (frames is not None and frames < 1) or rate < 0 or start < 0:
        raise ValueError(
            f"{frames} frames of {height}x{width} at {fps} fps from {start} s: give both sides or none, all positive"
        )
    if facts.frames == 1 and (frames or 1) > 1:
        raise ValueError(f"{footage} is a single image: it cannot give {frames} frames; ask for one")
    size = (height or facts.height, width or facts.width)
    pictures = [resized(picture, *size) for picture in _pictures(footage, facts, frames, rate, start)]
    return tensor(pictures)


def stream_clip(path: str | Path) -> Iterator[Float[Tensor, "c h w"]]:
    """Every frame of a file in turn, at its own rate, in [-1, 1]; memory does not grow with its length.

    Errors: as ``read_clip``; that a file ends before its container says so is found at its end.
    """
    footage = _film(path)
    facts = footage.probe()
    for picture in _pictures(footage, facts, None, facts.fps, 0.0):
        # The size may change inside a stream; what was promised is the first one's.
        yield tensor([resized(picture, facts.height, facts.width)])[:, 0]


def tensor(pictures: list[Picture]) -> Float[Tensor, "c t h w"]:
    """Frames as a clip in [-1, 1]."""
    stacked = torch.from_numpy(np.stack(pictures))
    video = stacked.float() / 127.5 - 1 if stacked.dtype == torch.uint8 else stacked
    return rearrange(video, "t h w c -> c t h w")


def _film(path: str | Path) -> Film:
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return Film(File(path))


def _pictures(footage: Footage, facts: Probe, frames: int | None, rate: float, start: float) -> Iterator[Picture]:
    """So many frames at a rate, or all there are; where they run out, whether they should."""
    times = (start + i / rate for i in (itertools.count() if frames is None else range(frames)))
    # Half a frame of slack is what makes it the nearest frame, and forgives timestamps that are rounded.
    end = yield from _shown(footage.timed(start), times, 0.5 / max(rate, facts.fps))
    if end is None:
        return
    if short := cut_short(facts, end):
        raise ValueError(f"{footage} {short}: it was cut short, copy it anew")
    if frames is not None or start >= end:
        asked = f"{frames} frames at {rate:g} fps" if frames is not None else "frames"
        raise ValueError(
            f"{footage} lasts {end:.2f} s: too short for {asked} from {start:g} s on; ask for fewer or a higher rate"
        )


def _shown(timed: Iterable[Timed], times: Iterable[float], slack: float) -> Generator[Picture, None, float | None]:
    """What is shown at each time and up to ``slack`` seconds after; returns, if the frames ran out, when the last one ends."""
    moments = iter(times)
    wanted = next(moments, None)
    before = None
    for frame in timed:
        while wanted is not None and wanted + slack < frame.start:
            yield (before or frame).picture()
            wanted = next(moments, None)
        if wanted is None:
            return None
        before = frame
    while before is not None and wanted is not None and wanted < before.end - _TICK:
        yield before.picture()
        wanted = next(moments, None)
    return None if wanted is None else before.end if before is not None else 0.0


def resized(picture: Picture, height: int, width: int) -> Num[np.ndarray, "{height} {width} c"]:
    """The largest centred part of the wanted shape, antialiased to the wanted size."""
    tall, wide, channels = picture.shape
    if (tall, wide) == (height, width):
        return np.ascontiguousarray(picture)
    part = min(tall / height, wide / width)
    left, top = (wide - part * width) / 2, (tall - part * height) / 2
    box = (left, top, left + part * width, top + part * height)

    def one(plane: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC, box=box))

    if picture.dtype == np.uint8 and channels == 3:
        return one(np.ascontiguousarray(picture))
    # Pillow resizes other numbers plane by plane; bicubic weights overshoot, bytes are cut off where they end.
    return np.stack([one(np.ascontiguousarray(picture[..., i])) for i in range(channels)], axis=-1)
