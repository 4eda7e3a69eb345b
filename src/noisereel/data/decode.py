"""Films: videos and images as frames with the time at which each is shown, decoded by PyAV and Pillow."""

from __future__ import annotations

import errno
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Num, UInt8
from PIL import Image

from noisereel.data.media import IMAGE_ENDINGS, File, Media

# This module and those it imports do without torch: the processes that look through files (``guard``) start in no time.

Picture = Num[np.ndarray, "h w c"]  # uint8, or float32 in [-1, 1]

LARGEST = 8192 * 8192  # pixels of a frame: what claims more is a damaged header or a bomb
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
    channels: int = 3
    rated: bool = True  # False where nothing says how fast the frames follow; ``fps`` is 1 then


@runtime_checkable
class Timed(Protocol):
    """A frame, and the seconds at which it appears and goes; its pixels are converted only when they are wanted."""

    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    def picture(self) -> Picture: ...


@runtime_checkable
class Footage(Protocol):
    """Frames to be had in the order of time, from whatever holds them."""

    def stamp(self) -> str:
        """Another one whenever the frames may have changed."""
        ...

    def probe(self) -> Probe:
        """Errors: ValueError for what cannot be read."""
        ...

    def timed(self, start: float = 0.0) -> Iterator[Timed]:
        """The frames from the one shown at ``start`` seconds on, or from some frame before it. Errors: as ``probe``."""
        ...


@dataclass(frozen=True)
class Film:
    """A video or image file's frames; transparency is composited on white, a phone's rotation undone.

    Errors: ValueError for damaged or missing bytes, with the reason; what a decoder would conceal is refused.
    """

    media: Media

    def __str__(self) -> str:
        return str(self.media)

    def stamp(self) -> str:
        return self.media.stamp()

    @property
    def still(self) -> bool:
        """Whether Pillow reads it, which tells nothing of how many frames it has."""
        return self.media.ending in IMAGE_ENDINGS

    def probe(self) -> Probe:
        with _explained(self):
            return _probe_image(self.media) if self.still else _probe_video(self.media)

    def timed(self, start: float = 0.0) -> Iterator[Timed]:
        with _explained(self):
            yield from _timed_image(self.media) if self.still else _timed_video(self.media, start)


@dataclass(frozen=True, kw_only=True)
class Excerpt:
    """A part of footage, as footage; nothing before ``start`` or after ``end`` is ever shown."""

    footage: Footage
    start: float  # seconds
    end: float

    def __str__(self) -> str:
        return f"{self.footage}, {self.start:.2f} to {self.end:.2f} s"

    def stamp(self) -> str:
        return f"{self.footage.stamp()} {self.start} {self.end}"

    def probe(self) -> Probe:
        whole, seconds = self.footage.probe(), self.end - self.start
        return replace(whole, seconds=seconds, frames=max(1, round(seconds * whole.fps)))

    def timed(self, start: float = 0.0) -> Iterator[Timed]:
        for frame in self.footage.timed(self.start + start):
            if frame.start > self.end - _TICK:
                return
            if frame.end > self.start + _TICK:
                yield _Moved(frame, self.start, self.end)


@dataclass(frozen=True)
class _Moved:
    """A frame of an excerpt."""

    shown: Timed
    origin: float
    until: float

    @property
    def start(self) -> float:
        return self.shown.start - self.origin

    @property
    def end(self) -> float:
        return min(self.shown.end, self.until) - self.origin

    def picture(self) -> Picture:
        return self.shown.picture()


def cut_short(facts: Probe, end: float) -> str | None:
    """What to say of footage whose last frame goes at ``end``, long before it should by the container."""
    if facts.seconds - end <= max(2 / facts.fps, min(0.25, facts.seconds / 10)):
        return None
    return f"says that it lasts {facts.seconds:.2f} s but ends after {end:.2f} s"


@dataclass(frozen=True)
class _Shot:
    start: float
    end: float
    source: Any  # av.VideoFrame, or PIL.Image.Image in RGBA

    def picture(self) -> Picture:
        return _composited(self.source) if isinstance(self.source, Image.Image) else _converted(self.source)


class _Opened:
    """A container with its first video stream, which is to be decoded without concealing damage."""

    def __init__(self, media: Media) -> None:
        import av

        self._file = None if isinstance(media, File) else media.open()
        try:
            self.container: Any = av.open(str(media.path) if isinstance(media, File) else self._file)
        except BaseException:
            self.close()
            raise

    @cached_property
    def stream(self) -> Any:
        if not self.container.streams.video:
            raise ValueError("it holds no video")
        stream = self.container.streams.video[0]
        if not 0 < stream.width * stream.height <= LARGEST:
            raise ValueError(f"it claims frames of {stream.width}x{stream.height} pixels")
        # Clips are shared among processes, not frames among threads: those can wait for one another for ever over damage.
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"err_detect": "explode"}
        return stream

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()
        self.close()

    def close(self) -> None:
        if self._file:
            self._file.close()


def _timed_video(media: Media, start: float) -> Iterator[Timed]:
    with _Opened(media) as opened:
        container, stream = opened.container, opened.stream
        origin = float((stream.start_time or 0) * stream.time_base)
        tick = float(stream.time_base)  # fractions are slow
        usual = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        if start > 0:  # to the key frame before it
            container.seek(int((start + origin) / stream.time_base), stream=stream)
        clock, held = 0.0, 0  # the clock is for streams without timestamps
        for packet in container.demux(stream):
            held += packet.is_discard  # an edit list leaves out what was cut away
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise ValueError(f"its frame at {clock:.2f} s is damaged")
                clock = clock if frame.time is None else frame.time - origin
                length = frame.duration * tick if frame.duration else usual
                yield _Shot(clock, clock + length, frame)
                clock += length
                held += 1
        if start == 0 and stream.frames - held > stream.frames / 50:
            raise ValueError(f"it says that it holds {stream.frames} frames and holds {held}")


def _probe_video(media: Media) -> Probe:
    with _Opened(media) as opened:
        container, stream = opened.container, opened.stream
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


def _converted(frame: Any) -> UInt8[np.ndarray, "h w 3"]:
    has_alpha = any(component.is_alpha for component in frame.format.components)
    if has_alpha:
        picture = _composited(Image.fromarray(frame.to_ndarray(format="rgba", threads=1), "RGBA"))
    else:
        picture = frame.to_ndarray(format="rgb24", threads=1)
    return np.rot90(picture, frame.rotation // 90)  # phones store what the sensor saw, and an angle


def _timed_image(media: Media) -> Iterator[Timed]:
    with media.open() as file, Image.open(cast(Any, file)) as image:
        clock = 0.0
        for length in _animation(image):
            yield _Shot(clock, clock + length, image.convert("RGBA"))
            clock += length
        at, size = file.tell(), file.seek(0, io.SEEK_END)
        if image.format == "GIF" and size - at > max(512, size / 100):  # the format counts no frames: it just ends
            raise ValueError(f"after its last frame {size - at} bytes are left")


def _probe_image(media: Media) -> Probe:
    with media.open() as file, Image.open(cast(Any, file)) as image:
        lengths = list(_animation(image))
        seconds = sum(lengths)
        frames = sum(round(length / min(lengths)) for length in lengths)  # writers merge equal frames into a longer one
        return Probe(frames=frames, fps=frames / seconds, height=image.height, width=image.width, seconds=seconds)


def _animation(image: Image.Image) -> Iterator[float]:
    """Goes to each frame in turn; how many seconds it is shown. A file's fallback picture is not one of them."""
    if image.width * image.height > LARGEST:
        raise ValueError(f"it claims frames of {image.width}x{image.height} pixels")
    count = getattr(image, "n_frames", 1)
    for i in range(1 if getattr(image, "default_image", False) and count > 1 else 0, count):
        image.seek(i)
        image.load()  # only then does a webp say for how long
        yield (image.info.get("duration", 0) / 1000 or _UNTIMED) if count > 1 else 1.0


def _composited(image: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    ground = Image.new("RGBA", image.size, "white")
    return np.asarray(Image.alpha_composite(ground, image).convert("RGB"))


class _explained:  # noqa: N801  (reads as a statement: with _explained(film))
    """Turns what PyAV and Pillow raise over a damaged file into one clear ValueError."""

    def __init__(self, film: Film) -> None:
        self.film = film

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise ValueError(f"there is no file {self.film}") from error
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EIO):
            return
        # Over damage the decoders raise whatever comes first: IndexError, struct.error, NotImplementedError, ...
        if isinstance(error, Exception) and not isinstance(error, MemoryError):
            reason = getattr(error, "strerror", None) or str(error) or "it holds no frame"
            raise ValueError(f"cannot read {self.film}: {reason}; is it a whole video or image?") from error
