"""The spatial parts of a network: they work on feature maps ``bt c h w``, one row for each frame, and never mix two frames.

Maps are kept in channels-last memory, where the channels of a pixel are neighbours: convolutions are fastest there, and
``bt (h w) c`` is a free view of them, so that attention and linears need no copies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn

from noisereel.nets.frames import Frames
from noisereel.nets.norm import FrameNorm

Maps = Float[Tensor, "bt c h w"]
NewMaps = Float[Tensor, "bt new_c new_h new_w"]
AnyModule = TypeVar("AnyModule", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Context:
    """What every block of a U-Net sees besides its input."""

    frames: Frames
    embedding: Float[Tensor, "bt e"]  # of each frame: time, pooled text and scalars, after SiLU
    tokens: Float[Tensor, "s l d"] | None = None  # text; s is b, or b * t where a sample holds several clips
    mask: Bool[Tensor, "s l"] | None = None
    hints: tuple[Float[Tensor, "bt _ _ _"], ...] = ()  # what the temporal layers of each level are given; () for nothing
    temporal_embedding: Float[Tensor, "bt e"] | None = None  # what temporal convolutions see instead, where they are told more


def zero(module: AnyModule) -> AnyModule:
    """The module with its parameters set to 0: a residual branch that ends in it is the identity at birth."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def sinusoid(x: Num[Tensor, "*n"], width: int, period: float = 10_000.0) -> Float[Tensor, "*n width"]:
    """Cosines then sines of ``x`` at ``width / 2`` frequencies from 1 down towards ``1 / period`` (Vaswani et al. 2017)."""
    half = width // 2
    frequencies = torch.exp(-math.log(period) / half * torch.arange(half, device=x.device, dtype=torch.float32))
    angles = x.float()[..., None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class Embedding(nn.Sequential):
    """A two-layer perceptron from a vector to the conditioning width."""

    def __init__(self, width: int, embed_width: int) -> None:
        super().__init__(nn.Linear(width, embed_width), nn.SiLU(), nn.Linear(embed_width, embed_width))


class ScalarEmbedding(nn.Module):
    """Sinusoids of a number, then a perceptron; ``unit`` brings the number to the range 0..1000."""

    def __init__(self, width: int, embed_width: int, unit: float = 1.0) -> None:
        super().__init__()
        self.width, self.unit = width, unit
        self.mlp = Embedding(width, embed_width)

    def forward(self, x: Float[Tensor, n]) -> Float[Tensor, "n e"]:
        return self.mlp(sinusoid(x * self.unit, self.width).to(next(self.mlp.parameters()).dtype))


class Conv(nn.Conv2d):
    """A convolution of each frame; it looks at ``frames`` only so as to be called like those that mix frames."""

    def forward(self, x: Maps, frames: Frames) -> NewMaps:  # type: ignore[override]
        return super().forward(x)


def first_conv(module: nn.Module) -> nn.Conv2d:
    """The convolution a layer starts with."""
    return next(part for part in module.modules() if isinstance(part, nn.Conv2d))


MakeConv = Callable[[int, int], nn.Module]  # widths in and out; its product is called with (maps, frames)


def conv3(width: int, out_width: int) -> Conv:
    """A 3x3 convolution of each frame."""
    return Conv(width, out_width, 3, padding=1)


class ResBlock(nn.Module):
    """Norm, SiLU, convolution, twice, on a residual branch that the embedding shifts, or scales and shifts, in the middle.

    The same block serves time with ``make_conv`` a temporal convolution. The branch is zero at birth.
    """

    def __init__(
        self,
        width: int,
        out_width: int,
        embed_width: int,
        *,
        norm_groups: int = 32,
        scale_shift: bool = True,
        dropout: float = 0.0,
        make_conv: MakeConv = conv3,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.norm1 = FrameNorm(norm_groups, width)
        self.conv1 = make_conv(width, out_width)
        self.embed = nn.Linear(embed_width, out_width * (2 if scale_shift else 1))
        self.norm2 = FrameNorm(norm_groups, out_width)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = make_conv(out_width, out_width)
        zero(first_conv(self.conv2))
        self.shortcut = nn.Conv2d(width, out_width, 1) if width != out_width else nn.Identity()

    def forward(self, x: Maps, context: Context) -> NewMaps:
        return self.branch(x, context).add_(self.shortcut(x))  # no backward pass needs what the addition overwrites

    def branch(self, x: Maps, context: Context) -> NewMaps:
        embedding = self.embed(context.embedding)
        h = self.conv1(self.norm1(x, silu=True), context.frames)
        if self.scale_shift:
            h = self.norm2(h, film=embedding, silu=True)
        else:
            h = self.norm2(h + rearrange(embedding, "bt c -> bt c 1 1"), silu=True)
        return self.conv2(self.dropout(h), context.frames)


class Downsample(nn.Module):
    """Halves height and width by a strided convolution."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Maps, context: Context) -> NewMaps:
        return self.conv(x, context.frames)


class Upsample(nn.Module):
    """Doubles height and width by repeating pixels, then convolves."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Maps, context: Context) -> NewMaps:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"), context.frames)
