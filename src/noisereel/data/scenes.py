"""The scenes of a piece of footage: where it is cut, how bright each is, how much moves in it, and what it looks like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from noisereel.data.check import bytes_of, first_frame, reason
from noisereel.data.decode import Footage, Picture, Timed, cut_short
from noisereel.data.guard import alive

# This module does without torch, as ``guard`` asks.

Cuts = Literal["adaptive", "content", "none"]
SHORTEST = "0.6s"  # of a scene, as PySceneDetect has it
WIDE = 256  # pixels; cuts are looked for in frames no larger than this
SMALL = 32  # pixels; the side of the pictures by which scenes are measured and compared
PACE = 8.0  # of those pictures a second, at most
PRINTS = 8  # of a scene, evenly spread


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A part of footage without a cut."""

    start: float  # seconds
    end: float
    brightness: float  # 0 black .. 1 white, on average
    motion: float  # how much of black to white a pixel of a 32x32 picture changes in an eighth of a second; 0 for a still
    prints: tuple[str, ...]  # perceptual hashes of frames, in hexadecimal


@dataclass(frozen=True, kw_only=True)
class Look:
    """What looking at all frames of footage found."""

    scenes: tuple[Scene, ...] = ()
    problem: str | None = None  # why it should not be used
    digest: str = ""  # of its bytes
    still: bool = False  # a single image


def look(footage: Footage, cuts: Cuts = "adaptive") -> Look:
    """Decode footage once, and say what its scenes are. Errors: ImportError without PySceneDetect and imagehash."""
    found = first_frame(footage)
    if found.probe is None:
        return Look(problem=found.problem)
    try:
        seen = _Seen(cuts, found.probe.fps)
        for frame in footage.timed():
            seen.add(frame)
            alive()
        if problem := cut_short(found.probe, seen.end):
            return Look(problem=problem)
        return Look(scenes=tuple(seen.scenes()), digest=bytes_of(footage)["digest"], still=found.probe.frames == 1)
    except (ValueError, OSError) as error:
        return Look(problem=reason(error, footage))


class _Seen:
    """What was seen of footage so far: where it is cut, and a small picture of it now and then."""

    def __init__(self, cuts: Cuts, fps: float) -> None:
        self.detector, self.fps = _detector(cuts), fps
        self.starts: list[float] = []  # of every frame
        self.end = 0.0
        self.next = 0.0  # when the next small picture is due
        self.cuts: list[int] = []  # numbers of frames that begin a scene
        self.times: list[float] = []  # of the small pictures
        self.smalls: list[UInt8[np.ndarray, "32 32"]] = []

    def add(self, frame: Timed) -> None:
        number = len(self.starts)
        self.starts.append(frame.start)
        self.end = max(self.end, frame.end)
        due = frame.start >= self.next - 1e-3
        if not (due or self.detector):
            return
        picture = _bytes(frame.picture())
        if self.detector:
            self._cut(number, _shrunk(picture))
        if due:
            self.next = max(self.next, frame.start - 1 / PACE) + 1 / PACE
            self.times.append(frame.start)
            self.smalls.append(_small(picture))

    def _cut(self, number: int, picture: UInt8[np.ndarray, "h w 3"]) -> None:
        from scenedetect import FrameTimecode

        found = self.detector.process_frame(FrameTimecode(number, self.fps), np.ascontiguousarray(picture[..., ::-1]))
        self.cuts += [code.frame_num for code in found]

    def scenes(self) -> Iterator[Scene]:
        """From cut to cut."""
        starts = [0.0, *(self.starts[number] for number in self.cuts)]
        times = np.array(self.times)
        for start, end in zip(starts, [*starts[1:], self.end], strict=True):
            within = np.flatnonzero((times >= start - 1e-6) & (times < end - 1e-6))
            if len(within):
                yield _measured(start, end, [self.smalls[i] for i in within])


def _measured(start: float, end: float, smalls: Sequence[UInt8[np.ndarray, "h w"]]) -> Scene:
    grey = np.stack(smalls).astype(np.float32) / 255
    chosen = {int(at) for at in (np.arange(PRINTS) + 0.5) / PRINTS * len(smalls)}
    return Scene(
        start=round(start, 6),
        end=round(end, 6),
        brightness=round(float(grey.mean()), 4),
        motion=round(float(np.abs(np.diff(grey, axis=0)).mean()) if len(grey) > 1 else 0.0, 5),
        prints=tuple(_print(smalls[at]) for at in sorted(chosen)),
    )


def _detector(cuts: Cuts) -> Any:
    if cuts == "none":
        return None
    from scenedetect.detectors import AdaptiveDetector, ContentDetector

    return {"adaptive": AdaptiveDetector, "content": ContentDetector}[cuts](min_scene_len=SHORTEST)


def _bytes(picture: Picture) -> UInt8[np.ndarray, "h w 3"]:
    """Three channels of bytes, whatever there is; of more than three the first."""
    seen = picture if picture.dtype == np.uint8 else ((picture + 1) * 127.5).clip(0, 255).astype(np.uint8)
    return seen[..., :3] if seen.shape[-1] >= 3 else np.repeat(seen[..., :1], 3, axis=-1)


def _shrunk(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "_ _ 3"]:
    step = max(1, max(picture.shape[:2]) // WIDE)
    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.reduce(step) if step > 1 else image)


def _small(picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "32 32"]:
    image = Image.fromarray(np.ascontiguousarray(picture)).convert("L")
    return np.asarray(image.resize((SMALL, SMALL), Image.Resampling.BOX))


def _print(small: UInt8[np.ndarray, "h w"]) -> str:
    import imagehash

    return str(imagehash.phash(Image.fromarray(small)))
