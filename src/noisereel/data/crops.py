"""Parts of clips: what a model learns from that shall work on videos of any size and length."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from noisereel.data.clips import Clip, Source


@dataclass(frozen=True)
class Cropped:
    """A part of each clip, ``shape`` being its frames, height and width: the liveliest of ``tries`` parts somewhere in it.

    Which part is a function of the clip's index. Where most of a clip is plain ground, the liveliest teaches the most.
    """

    source: Source
    shape: tuple[int, int, int]
    tries: int = 1

    def __getitem__(self, index: int) -> Clip:
        clip = self.source[index]
        spare = [whole - part for whole, part in zip(clip.video.shape[1:], self.shape, strict=True)]
        if min(spare) < 0:
            there, wanted = ("x".join(map(str, sizes)) for sizes in (clip.video.shape[1:], self.shape))
            raise ValueError(f"a clip of {there} (frames, height, width) has no part of {wanted}: cut smaller parts")
        rng = np.random.default_rng(index)
        parts = [self._part(clip.video, rng.integers(np.array(spare) + 1)) for _ in range(self.tries)]
        return replace(clip, video=max(parts, key=liveliness).contiguous())

    def _part(self, video: Float[Tensor, "c _ _ _"], corner: np.ndarray) -> Float[Tensor, "c t h w"]:
        frames, rows, columns = (slice(start, start + size) for start, size in zip(corner, self.shape, strict=True))
        return video[:, frames, rows, columns]


def liveliness(video: Float[Tensor, "c t h w"]) -> float:
    """How much neighbours in time and space differ."""
    return sum(float(video.diff(dim=dim).abs().mean()) for dim in (1, 2, 3) if video.shape[dim] > 1)


@dataclass(frozen=True)
class _CroppedSome(Cropped):
    """The same of a source that has an end."""

    def __len__(self) -> int:
        assert isinstance(self.source, Sized)
        return len(self.source)


def cropped(source: Source, shape: tuple[int, int, int], tries: int = 1) -> Source:
    """Parts of ``shape`` (frames, height, width) of the clips of ``source``, as many as it has."""
    return (_CroppedSome if isinstance(source, Sized) else Cropped)(source, shape, tries)
