"""What the worlds share: their splits and pools, the size of a clip, and the colours of plain grounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from noisereel.data.clips import Pool

Split = Literal["train", "held_out"]

GROUNDS = {  # sRGB, 0 .. 255; a world has some of them
    "white": (245, 245, 245),
    "black": (10, 10, 10),
    "grey": (128, 128, 128),
    "navy": (20, 25, 75),
    "beige": (225, 205, 170),
    "sky blue": (135, 200, 245),
    "mint green": (165, 225, 180),
    "pink": (255, 180, 205),
}


@dataclass(frozen=True, kw_only=True)
class World:
    """Which clips a world gives, and how long and large they are."""

    split: Split = "train"
    pool: Pool = "captioned_video"
    frames: int = 16
    height: int = 64
    width: int = 64
    fps: float = 16.0
    seconds: float = 1.0  # how long a scene lasts; a clip shows its first ``frames / fps``

    def __post_init__(self) -> None:
        if (self.frames - 1) / self.fps > self.seconds:
            raise ValueError(f"{self.frames} frames at {self.fps:g} fps last longer than a scene of {self.seconds:g} s")
