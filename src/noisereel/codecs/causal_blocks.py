"""What a causal autoencoder is built from: norm, residual block, attention within a frame, resampling of time and space."""

from __future__ import annotations

from typing import TypeVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from noisereel.codecs.causal import CausalConv, Chunk, FrameConv, Maps, NewMaps, Past, conv3d
from noisereel.codecs.pixel_norm import PixelNorm

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def zero(module: AnyModule) -> AnyModule:
    """The module with its parameters set to 0."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class ResBlock(nn.Module):
    """Norm, SiLU, causal convolution, twice, on a residual branch that is zero at birth."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.norm1 = PixelNorm(width)
        self.conv1 = CausalConv(width, out_width)
        self.norm2 = PixelNorm(out_width)
        self.conv2 = zero(CausalConv(out_width, out_width))
        self.shortcut = nn.Conv3d(width, out_width, 1) if width != out_width else None

    def forward(self, x: Maps, past: Past, chunk: Chunk) -> tuple[NewMaps, Past]:
        past1, past2 = past or (None, None)
        h, past1 = self.conv1(self.norm1(x, chunk), past1, chunk)
        h, past2 = self.conv2(self.norm2(h, chunk), past2, chunk)
        return h.add_(x if self.shortcut is None else conv3d(x, self.shortcut)), (past1, past2)


class FrameAttention(nn.Module):
    """One head of attention among the pixels of each frame, on a residual branch that is zero at birth."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = PixelNorm(width)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = zero(nn.Linear(width, width))

    def forward(self, x: Maps, past: Past, chunk: Chunk) -> tuple[Maps, Past]:
        rows = rearrange(self.norm(x, chunk, silu=False), "b c t h w -> b t (h w) c")
        q, k, v = self.to_qkv(rows).chunk(3, dim=-1)
        out = self.to_out(F.scaled_dot_product_attention(q, k, v))
        return x + rearrange(out, "b t (h w) c -> b c t h w", h=x.shape[3]), None


class Down(nn.Module):
    """Halves height and width (``hw``), then the frames after the first (``t``), by strided convolutions (Wan 2025)."""

    def __init__(self, width: int, halve: str) -> None:
        super().__init__()
        self.space = FrameConv(width, width, 3, stride=2) if "hw" in halve else None
        self.time = nn.Conv3d(width, width, (3, 1, 1), stride=(2, 1, 1)) if "t" in halve else None

    def forward(self, x: Maps, past: Past, chunk: Chunk) -> tuple[NewMaps, Past]:
        if self.space is not None:
            x = self.space(F.pad(x, (0, 1, 0, 1)))
        if self.time is None:
            return x, None
        if chunk.first:
            rest = [conv3d(x, self.time)] if x.shape[2] > 1 else []
            return torch.cat([x[:, :, :1], *rest], dim=2), x[:, :, -1:].clone()
        assert isinstance(past, Tensor)
        return conv3d(torch.cat([past, x], dim=2), self.time), x[:, :, -1:].clone()


class Up(nn.Module):
    """Doubles the frames after the first (``t``), then height and width (``hw``): the way back of ``Down``."""

    def __init__(self, width: int, out_width: int, halve: str) -> None:
        super().__init__()
        self.time = CausalConv(width, 2 * width, (3, 1, 1)) if "t" in halve else None
        self.space = FrameConv(width, out_width, 3, padding=1) if "hw" in halve else None

    def forward(self, x: Maps, past: Past, chunk: Chunk) -> tuple[NewMaps, Past]:
        if self.time is not None:
            x, past = self._double_frames(x, past, chunk)
        if self.space is not None:
            x = self.space(x.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4))
        return x, past

    def _double_frames(self, x: Maps, past: Past, chunk: Chunk) -> tuple[NewMaps, Past]:
        assert self.time is not None
        alone, rest = (x[:, :, :1], x[:, :, 1:]) if chunk.first else (x[:, :, :0], x)
        if rest.shape[2] == 0:
            return x, past
        doubled, past = self.time(rest, past, chunk)
        doubled = rearrange(doubled, "b (two c) t h w -> b c (t two) h w", two=2)
        return torch.cat([alone, doubled], dim=2), past
