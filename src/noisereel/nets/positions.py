"""How a transformer knows where its tokens lie: in time, row and column, however many there are of each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from noisereel.nets.attention import rotary_angles
from noisereel.nets.fused import Rotation
from noisereel.nets.tokens import Grid, Tokens


class Positions(nn.Module):
    """The positions of ``DiT``, which says what its arguments mean; ``axes`` are given here."""

    def __init__(
        self, kind: str, width: int, axes: Sequence[int], *, fitted: Sequence[int], scale: Sequence[float], table: Sequence[int]
    ) -> None:
        super().__init__()
        self.kind, self.width, self.axes, self.fitted = kind, width, axes, fitted
        self.scale, self.sizes = scale, tuple(table)
        if kind == "learned":
            text, frames, height, columns = table
            self.table = nn.Parameter(torch.zeros(1, text + frames * height * columns, width))

    def added(self, tokens: Tokens, grid: Grid, text_length: int) -> Tokens:
        """The tokens of one clip, text first, with what is added to them.

        Raises:
            ValueError: a learned table of another size.
        """
        if self.kind == "rope":
            return tokens
        if self.kind == "sincos":
            places = coordinates(grid, self.fitted, tokens.device) / torch.tensor(self.scale, device=tokens.device)
            return tokens + F.pad(sincos(places, self.width), (0, 0, text_length, 0)).to(tokens.dtype)
        text, *learned = self.sizes
        if list(grid) != learned or text_length > text:
            raise ValueError(
                f"the network learned positions for {' x '.join(map(str, learned))} patches and up to {text} tokens of text, "
                f"and was given {' x '.join(map(str, grid))} and {text_length}"
            )
        return tokens + torch.cat([self.table[:, :text_length], self.table[:, text:]], dim=1).to(tokens.dtype)

    def rotation(self, clips: Sequence[tuple[Grid, int]], device: torch.device) -> Rotation | None:
        """How far each token of a sequence turns, for the grid and the text length of each clip.

        Text does not turn: it stands at the origin, which turns nothing.
        """
        if self.kind == "sincos":
            return None
        places = [F.pad(coordinates(grid, self.fitted, device), (0, 0, text_length, 0)) for grid, text_length in clips]
        axes = zip(torch.cat(places).unbind(-1), self.axes, strict=True)
        angles = torch.cat([rotary_angles(place, width) for place, width in axes], dim=-1)
        return angles.cos(), angles.sin()


def coordinates(grid: Grid, fitted: Sequence[int] = (), device: torch.device | str = "cpu") -> Float[Tensor, "l 3"]:
    """Frame, row and column of each patch, counted in patches, or fitted into the rows and columns of another grid."""
    axes = [torch.arange(size, device=device, dtype=torch.float32) for size in grid]
    if fitted:
        axes[1:] = [torch.linspace(*ends, size, device=device) for ends, size in zip(fit(grid, fitted), grid[1:], strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)


def fit(grid: Grid, fitted: Sequence[int]) -> list[tuple[float, float]]:
    """Where the first and last row, and the first and last column, come to lie when a frame is scaled into the middle of
    another, as CogVideoX was trained.
    """
    scale = min(full / size for full, size in zip(fitted, grid[1:], strict=True))
    ends = []
    for full, size in zip(fitted, grid[1:], strict=True):
        extent = round(scale * size)
        start = round((full - extent) / 2)
        ends.append((float(start), (start + extent) * (size - 1) / size))
    return ends


def sincos(places: Float[Tensor, "l 3"], width: int) -> Float[Tensor, "l width"]:
    """Sines and cosines of frame, column and row: a quarter of the width, and three eighths each (CogVideoX-2B)."""
    frame, row, column = places.unbind(-1)
    parts = [
        rotary_angles(place, size) for place, size in ((frame, width // 4), (column, 3 * width // 8), (row, 3 * width // 8))
    ]
    return torch.cat([wave for angles in parts for wave in (angles.sin(), angles.cos())], dim=-1)
