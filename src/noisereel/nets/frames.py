"""Frame groups: which frames of a sample may mix in time, worked out once for each forward pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from noisereel.types import Groups


@dataclass(frozen=True, kw_only=True)
class Frames:
    """The layout of the frames of a batch, whose ``b * t`` rows are stored sample after sample.

    The first ``clip`` frames of every sample are one clip and each of the others stands alone: a video with images behind
    it, or, when ``clip == count``, just a video. Any other grouping has ``clip == 0`` and mixes through ``same``.
    """

    samples: int
    count: int
    clip: int
    same: Bool[Tensor, "b t t"] | None = None  # True where two frames belong to one clip; only when ``clip == 0``
    reach: int = 0  # how far in time attention looks; 0 for the whole clip

    @classmethod
    def of(cls, samples: int, count: int, groups: Groups | None, reach: int = 0) -> Frames:
        """The layout that ``Cond.groups`` describes; looks at the values of ``groups``, so it waits for the device."""
        if groups is None:
            return cls(samples=samples, count=count, clip=count, reach=reach)
        if groups.shape != (samples, count):
            raise ValueError(
                f"groups has shape {tuple(groups.shape)}; {samples} samples of {count} frames need {samples, count}"
            )
        same = groups[:, :, None] == groups[:, None, :]
        clip = int(same[0, 0].sum())
        index = torch.arange(count, device=groups.device)
        usual = (index[:, None] == index) | ((index[:, None] < clip) & (index < clip))
        if bool((same == usual).all()):
            return cls(samples=samples, count=count, clip=clip, reach=reach)
        return cls(samples=samples, count=count, clip=0, same=same, reach=reach)

    @property
    def alone(self) -> bool:
        """Whether no frame has another to mix with."""
        return self.clip == 1

    def mixing(self, like: Tensor) -> Float[Tensor, "b t"]:
        """1 for a frame that shares its clip with another frame, 0 for one that stands alone."""
        if self.same is not None:
            return (self.same.sum(-1) > 1).to(like)
        index = torch.arange(self.count, device=like.device)
        mixing = (index < self.clip) & (self.clip > 1)
        return mixing.to(like).expand(self.samples, self.count)

    def positions(self, device: torch.device) -> Int[Tensor, "#b t"]:
        """The number of each frame inside its clip, from 0."""
        if self.same is not None:
            return self.same.tril(-1).sum(-1)
        index = torch.arange(self.count, device=device)
        return torch.where(index < self.clip, index, 0)[None]

    def visible(self, device: torch.device) -> Bool[Tensor, "#b m m"] | None:
        """Which of the frames that mix attention may look from (rows) and at (columns); None where it may everywhere.

        The m frames are the first clip's, or all of them when ``clip == 0``.
        """
        if not 0 < self.reach < self.count - 1:  # then they see all of their clip anyhow
            return self.same
        positions = self.positions(device)[:, : self.clip or self.count]
        near = (positions[:, :, None] - positions[:, None, :]).abs() <= self.reach
        return near if self.same is None else near & self.same

    def shares(self, like: Tensor) -> Float[Tensor, "#b t t"]:
        """Rows that average over the frames of a frame's clip."""
        same = self.same
        if same is None:
            index = torch.arange(self.count, device=like.device)
            same = ((index[:, None] == index) | ((index[:, None] < self.clip) & (index < self.clip)))[None]
        return same.to(like) / same.sum(-1, keepdim=True)

    def neighbours(self) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b t"]]:
        """The frame before and the frame after each frame in its clip, as ``index + 1``; 0 where there is none."""
        assert self.same is not None
        number = torch.arange(1, self.count + 1, device=self.same.device)
        before = (self.same.tril(-1) * number).amax(-1)
        later = (self.same.triu(1) * (self.count + 1 - number)).amax(-1)
        return before, torch.where(later > 0, self.count + 1 - later, 0)
