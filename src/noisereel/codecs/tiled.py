"""Large frames in tiles that overlap: the memory of one tile, for any codec."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from noisereel.types import Codec, Latent, Video

Piece = Float[Tensor, "b c t h w"]
NewPiece = Float[Tensor, "b new_c new_t new_h new_w"]


@dataclass(frozen=True, kw_only=True)
class Tiled:
    """A codec that works on squares of ``tile`` pixels, each faded into its neighbours over ``overlap`` pixels.

    Far enough from the edge of a tile, further than the codec looks, the result is that of the whole frame; a codec with
    attention looks everywhere, and there it is close.

    Raises:
        ValueError: sizes that are not multiples of the codec's stride, or an overlap of more than half a tile.
    """

    codec: Codec
    tile: int
    overlap: int

    def __post_init__(self) -> None:
        for name, size in (("tile", self.tile), ("overlap", self.overlap)):
            for stride in self.codec.stride[1:]:
                if size % stride:
                    raise ValueError(f"{name}={size} will not do: the codec takes multiples of {stride}")
        if not 0 <= 2 * self.overlap <= self.tile or self.tile < 1:
            raise ValueError(f"overlap={self.overlap} will not do: use from 0 to half of the tile, {self.tile // 2}")

    @property
    def channels(self) -> int:
        return self.codec.channels

    @property
    def stride(self) -> tuple[int, int, int]:
        return self.codec.stride

    @property
    def lead(self) -> int:
        return self.codec.lead

    def encode(self, video: Video) -> Latent:
        rows, columns = (tuple(size // stride for size in (self.tile, self.overlap)) for stride in self.stride[1:])
        pixels = (self.tile, self.overlap)

        def row(part: Video) -> Latent:
            return blended(tiles(part, 4, *pixels), self.codec.encode, 4, columns[1])

        return blended(tiles(video, 3, *pixels), row, 3, rows[1])

    def decode(self, latent: Latent) -> Video:
        rows, columns = (tuple(size // stride for size in (self.tile, self.overlap)) for stride in self.stride[1:])

        def row(part: Latent) -> Video:
            return blended(tiles(part, 4, *columns), self.codec.decode, 4, self.overlap)

        return blended(tiles(latent, 3, *rows), row, 3, self.overlap)


def tiles(x: Piece, dim: int, size: int, overlap: int) -> Iterator[Piece]:
    """Pieces along one axis, of which the last may be smaller."""
    for start in range(0, max(x.shape[dim] - overlap, 1), size - overlap):
        yield x.narrow(dim, start, min(size, x.shape[dim] - start))


def blended(pieces: Iterator[Piece], work: Callable[[Piece], NewPiece], dim: int, overlap: int) -> NewPiece:
    """What ``work`` makes of the pieces, side by side, each faded linearly into the one before over ``overlap``."""
    done: list[Tensor] = []
    for piece in pieces:
        new = work(piece)
        if done and overlap:
            shape = [overlap if axis == dim else 1 for axis in range(5)]
            ramp = (torch.arange(1, overlap + 1, device=new.device, dtype=new.dtype) / (overlap + 1)).view(shape)
            old = done.pop()
            done.append(old.narrow(dim, 0, old.shape[dim] - overlap))
            done.append(old.narrow(dim, old.shape[dim] - overlap, overlap).lerp(new.narrow(dim, 0, overlap), ramp))
            new = new.narrow(dim, overlap, new.shape[dim] - overlap)
        done.append(new)
    return torch.cat(done, dim)
