"""What every source of training data yields: one clip, with its caption if it has one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

# Captioned videos; captioned single frames whose captions hold no word that only motion could show; and videos without
# captions, of things that the captioned videos never show.
Pool = Literal["captioned_video", "captioned_image", "unlabelled_video"]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One video (an image is a one-frame video) and what is known about it."""

    video: Float[Tensor, "c t h w"]  # float32 in [-1, 1], or latents
    caption: str | None
    fps: float  # frames per second, of the pixels
    encoded: bool = False  # ``video`` holds latents


@runtime_checkable
class Source(Protocol):
    """An endless or finite row of clips; what an index gives is a pure function of the index."""

    def __getitem__(self, index: int) -> Clip: ...
