"""Videos as tokens: patches in space and time."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from noisereel.types import Video

Patch = tuple[int, int, int]  # frames, rows and columns of a latent that make one token
Tokens = Float[Tensor, "b l d"]
Grid = tuple[int, int, int]  # patches along t, h and w

PATCHES = "b c (t pt) (h ph) (w pw) -> b (t h w) (c pt ph pw)"


def patchify(x: Video, patch: Patch) -> Tokens:
    """Patches row by row and frame after frame; the numbers of a token are ordered channel, frame, row, column."""
    return rearrange(x, PATCHES, **_sizes(patch))


def unpatchify(tokens: Tokens, patch: Patch, grid: Grid) -> Video:
    """The inverse of ``patchify`` for a video of ``grid`` patches."""
    back = " -> ".join(reversed(PATCHES.split(" -> ")))
    return rearrange(tokens, back, **_sizes(patch), **dict(zip("thw", grid, strict=True)))


def grid_of(x: Video, patch: Patch) -> Grid:
    """How many patches a video has along each axis.

    Raises:
        ValueError: a size that is not a multiple of the patch.
    """
    shape = x.shape[2:]
    if any(size % part for size, part in zip(shape, patch, strict=True)):
        raise ValueError(f"the video is {' x '.join(map(str, shape))}; its sizes must be multiples of the patch {patch}")
    frames, height, width = (size // part for size, part in zip(shape, patch, strict=True))
    return frames, height, width


def _sizes(patch: Patch) -> dict[str, int]:
    return dict(zip(("pt", "ph", "pw"), patch, strict=True))
