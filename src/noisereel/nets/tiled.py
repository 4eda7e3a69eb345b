"""Large frames in tiles that overlap, of which a network sees one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from noisereel.types import Backbone, Cond, Times, Video


class Tiled(nn.Module):
    """A network that sees tiles of ``tile`` x ``tile`` positions and whose answers are averaged where tiles overlap.

    What a network answers is linear in the clean video, so this averages clean estimates, in every step of sampling: tiles
    that share a border agree on it, and no seam is left (Bar-Tal et al. 2023, MultiDiffusion, eq. 5). A network that sees
    no further than a quarter of the overlap gives the same tiled and whole.

    Raises:
        ValueError: a tile or an overlap that the network's halvings do not divide, or an overlap of more than half a tile.
    """

    def __init__(self, net: nn.Module, tile: int, overlap: int) -> None:
        super().__init__()
        assert isinstance(net, Backbone)
        self.multiple = getattr(net, "multiple", 1)
        if tile % self.multiple or overlap % self.multiple or tile < 1 or not 0 <= 2 * overlap <= tile:
            raise ValueError(
                f"tiles of {tile} positions that overlap by {overlap} will not do: use multiples of {self.multiple}, "
                "and an overlap of at most half a tile"
            )
        self.net, self.tile, self.overlap = net, tile, overlap

    def forward(self, x: Video, t: Times, cond: Cond) -> Video:
        height, width = x.shape[-2:]
        if max(height, width) <= self.tile:
            return self.net(x, t, cond)
        answer, total = torch.zeros_like(x), x.new_zeros(height, width)
        columns = list(shares(width, self.tile, self.overlap))
        for rows, down in shares(height, self.tile, self.overlap):
            for part, across in columns:
                weight = (rearrange(down, "h -> h 1") * across).to(x)
                answer[..., rows, part] += weight * self.net(x[..., rows, part], t, cropped(cond, rows, part))
                total[rows, part] += weight
        return answer / total

    @property
    def blocks(self) -> nn.ModuleList:
        return self.net.blocks

    def temporal_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that mix frames."""
        return self.net.temporal_parameters()


def shares(length: int, tile: int, overlap: int) -> Iterator[tuple[slice, Float[Tensor, " s"]]]:
    """Tiles along an axis, and how much each counts at each of its positions; all are of one size, the last is moved back."""
    size = min(tile, length)
    last = length - size
    for start in [*range(0, last, tile - overlap), last]:
        rise, fall = ramp(overlap), ramp(overlap).flip(0)
        weight = torch.ones(size)
        if start > 0:
            weight[:overlap] *= rise
        if start < last:
            weight[size - overlap :] *= fall
        yield slice(start, start + size), weight


def ramp(overlap: int, after: int | None = None) -> Float[Tensor, " o"]:
    """Rises from 0 to 1 over an overlap: nothing in its first quarter, and all in its last quarter or last ``after``.

    Near a tile's border a network sees too little, so what it says there is not listened to.
    """
    after = overlap // 4 if after is None else after
    before = min(overlap // 4, overlap - after)
    # Where the margins leave nothing between them it is a step.
    return ((torch.arange(overlap) - before + 0.5) / (overlap - before - after or 0.5)).clamp(0, 1)


def cropped(cond: Cond, rows: slice, columns: slice) -> Cond:
    """The conditions of a part of the frames."""
    if cond.hint is None:
        return cond
    return replace(cond, hint=replace(cond.hint, channels=cond.hint.channels[..., rows, columns]))
