"""Clips from files: decoded by timestamp, resampled to the wanted rate, size and number of frames."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

VIDEO_ENDINGS = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ogv")
IMAGE_ENDINGS = (".gif", ".webp", ".apng", ".png", ".jpg", ".jpeg", ".bmp")  # FFmpeg cannot read animated WebP, Pillow can

Picture = UInt8[np.ndarray, "h w 3"]

_TICK = 1e-3  # seconds; containers round their timestamps, Matroska to this
_UNTIMED = 0.1  # seconds that players show a frame for which a gif states no duration


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What a file says of itself before its frames are decoded; a still image is one frame that lasts a second."""

    frames: int
    fps: float  # of a video the average rate, of an animated image that of its shortest frame
    height: int
    width: int
    seconds: float


def probe(path: str | Path) -> Probe:
    """The facts of a video or image file. Errors: ValueError for a missing or unreadable file."""
    path = _existing(path)
    with _explained(path):
        return _probe_image(path) if path.suffix.lower() in IMAGE_ENDINGS else _probe_video(path)


def read_clip(
    path: str | Path,
    *,
    frames: int | None = None,
    height: int | None = None,
    width: int | None = None,
    fps: float | None = None,
    start: float = 0.0,
) -> Float[Tensor, "3 t h w"]:
    """``frames`` frames at ``fps`` from ``start`` seconds on, in [-1, 1], cropped at the centre to the wanted shape.

    What is not given is the file's own. A frame is the one nearest in time, so any rate is read from any other, varying
    ones included; transparency is composited on white. Errors: ValueError for a file that is missing, unreadable,
    shorter than asked, or that ends before its container says it does.
    """
    facts = probe(path)
    path, rate = Path(path), fps or facts.fps
    if (height is None) != (width is None) or (frames is not None and frames < 1) or rate < 0 or start < 0:
        raise ValueError(
            f"{frames} frames of {height}x{width} at {fps} fps from {start} s: give both sides or none, all positive"
        )
    if facts.frames == 1 and (frames or 1) > 1:
        raise ValueError(f"{path} is a single image: it cannot give {frames} frames; ask for one")
    size = (height or facts.height, width or facts.width)
    with _explained(path):
        times = (start + i / rate for i in (itertools.count() if frames is None else range(frames)))
        # Half a frame of slack is what makes it the nearest frame, and forgives timestamps that are rounded.
        pictures, end = _shown(_timed(path, start), times, 0.5 / max(rate, facts.fps), lambda picture: _resized(picture, *size))
    if end is not None:  # the file ran out
        _check_length(path, facts, end, frames, rate, start)
    return rearrange(torch.from_numpy(np.stack(pictures)), "t h w c -> c t h w").float() / 127.5 - 1


@dataclass(frozen=True)
class _Timed:
    """A decoded frame, with the seconds at which it appears and goes; its pixels are converted only when wanted."""

    start: float
    end: float
    source: Any  # av.VideoFrame, or PIL.Image.Image in RGBA

    def picture(self) -> Picture:
        return _composited(self.source) if isinstance(self.source, Image.Image) else _converted(self.source)


def _shown(
    timed: Iterable[_Timed], times: Iterable[float], slack: float, shape: Callable[[Picture], Picture]
) -> tuple[list[Picture], float | None]:
    """What is shown at each time and up to ``slack`` seconds after; and, if the frames ran out, when the last one ends."""
    pictures: list[Picture] = []
    moments = iter(times)
    wanted = next(moments, None)
    before = None
    for frame in timed:
        while wanted is not None and wanted + slack < frame.start:
            pictures.append(shape((before or frame).picture()))
            wanted = next(moments, None)
        if wanted is None:
            return pictures, None
        before = frame
    while before is not None and wanted is not None and wanted < before.end - _TICK:
        pictures.append(shape(before.picture()))
        wanted = next(moments, None)
    return pictures, None if wanted is None else before.end if before is not None else 0.0


def _check_length(path: Path, facts: Probe, end: float, frames: int | None, fps: float, start: float) -> None:
    if facts.seconds - end > max(0.25, 2 / facts.fps):
        raise ValueError(
            f"{path} says that it lasts {facts.seconds:.2f} s but ends after {end:.2f} s: it was cut short, copy it anew"
        )
    if frames is not None or start >= end:
        asked = f"{frames} frames at {fps:g} fps" if frames is not None else "frames"
        raise ValueError(f"{path} lasts {end:.2f} s: too short for {asked} from {start:g} s on; ask for fewer or a higher rate")


def _timed(path: Path, start: float) -> Iterator[_Timed]:
    return _timed_image(path) if path.suffix.lower() in IMAGE_ENDINGS else _timed_video(path, start)


def _timed_video(path: Path, start: float) -> Iterator[_Timed]:
    import av

    with av.open(str(path)) as container:
        stream: Any = container.streams.video[0]
        stream.thread_type = "AUTO"
        origin = float((stream.start_time or 0) * stream.time_base)
        usual = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        if start > 0:  # to the key frame before it
            container.seek(int((start + origin) / stream.time_base), stream=stream)
        clock = 0.0  # for streams without timestamps
        for frame in container.decode(stream):
            clock = clock if frame.time is None else frame.time - origin
            length = float(frame.duration * frame.time_base) if frame.duration and frame.time_base else usual
            yield _Timed(clock, clock + length, frame)
            clock += length


def _timed_image(path: Path) -> Iterator[_Timed]:
    with Image.open(path) as image:
        clock = 0.0
        for picture, length in _animation(image):
            yield _Timed(clock, clock + length, picture)
            clock += length


def _animation(image: Image.Image) -> Iterator[tuple[Image.Image, float]]:
    """Each frame in RGBA and how many seconds it is shown; a file's fallback picture is not one of them."""
    count = getattr(image, "n_frames", 1)
    for i in range(1 if getattr(image, "default_image", False) and count > 1 else 0, count):
        image.seek(i)
        picture = image.convert("RGBA")
        yield picture, (image.info.get("duration", 0) / 1000 or _UNTIMED) if count > 1 else 1.0


def _probe_image(path: Path) -> Probe:
    with Image.open(path) as image:
        lengths = [length for _, length in _animation(image)]
        seconds = sum(lengths)
        frames = sum(round(length / min(lengths)) for length in lengths)  # writers merge equal frames into a longer one
        return Probe(frames=frames, fps=frames / seconds, height=image.height, width=image.width, seconds=seconds)


def _probe_video(path: Path) -> Probe:
    import av

    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError("it holds no video")
        stream = container.streams.video[0]
        fps = float(stream.average_rate or stream.guessed_rate or 25)
        seconds = _stated_seconds(container, stream)
        rotation = next(container.decode(stream)).rotation
        sides = (stream.width, stream.height) if rotation % 180 else (stream.height, stream.width)
        frames = stream.frames or max(1, round(seconds * fps))
        return Probe(frames=frames, fps=fps, height=sides[0], width=sides[1], seconds=seconds or frames / fps)


def _stated_seconds(container: Any, stream: Any) -> float:
    """The video's length by its own stream if that states one, by a Matroska tag, or else by the whole file."""
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if tag := stream.metadata.get("DURATION"):
        hours, minutes, seconds = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    alone = len(container.streams) == 1  # sound may last longer than the video
    return container.duration / 1e6 if container.duration and alone else 0.0


def _converted(frame: Any) -> Picture:
    has_alpha = any(component.is_alpha for component in frame.format.components)
    if has_alpha:
        picture = _composited(Image.fromarray(frame.to_ndarray(format="rgba"), "RGBA"))
    else:
        picture = frame.to_ndarray(format="rgb24")
    return np.rot90(picture, frame.rotation // 90)  # phones store what the sensor saw, and an angle


def _composited(image: Image.Image) -> Picture:
    ground = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(ground, image).convert("RGB"))


def _resized(picture: Picture, height: int, width: int) -> UInt8[np.ndarray, "{height} {width} 3"]:
    """The largest centred part of the wanted shape, antialiased to the wanted size."""
    tall, wide, _ = picture.shape
    if (tall, wide) == (height, width):
        return np.ascontiguousarray(picture)
    part = min(tall / height, wide / width)
    left, top = (wide - part * width) / 2, (tall - part * height) / 2
    box = (left, top, left + part * width, top + part * height)
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((width, height), Image.Resampling.BICUBIC, box=box))


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return path


class _explained:  # noqa: N801  (reads as a statement: with _explained(path))
    """Turns what PyAV and Pillow raise over a damaged file into one clear ValueError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EIO):
            return
        if isinstance(error, OSError | ValueError | SyntaxError | EOFError | StopIteration):
            reason = getattr(error, "strerror", None) or str(error) or "it holds no frame"
            raise ValueError(f"cannot read {self.path}: {reason}; is it a whole video or image?") from error
