"""What a causal autoencoder is built from besides resampling: the residual block, and attention within a frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch.nn.functional as F
from einops import rearrange
from torch import nn

from noisereel.codecs.causal import CausalConv, Chunk, Maps, NewMaps, Past, Pointwise

MakeNorm = Callable[[int], nn.Module]  # of a width; its product is called with (maps, chunk, silu, out)
AnyModule = TypeVar("AnyModule", bound=nn.Module)


def zero(module: AnyModule) -> AnyModule:
    """The module with its parameters set to 0."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class ResBlock(nn.Module):
    """Norm, SiLU, causal convolution, twice, on a residual branch that is zero at birth."""

    def __init__(self, width: int, out_width: int, make_norm: MakeNorm, pad: str) -> None:
        super().__init__()
        self.norm1 = make_norm(width)
        self.conv1 = CausalConv(width, out_width, pad=pad)
        self.norm2 = make_norm(out_width)
        self.conv2 = zero(CausalConv(out_width, out_width, pad=pad))
        self.shortcut = Pointwise(width, out_width) if width != out_width else nn.Identity()

    def forward(self, x: Maps, past: Past, chunk: Chunk) -> tuple[NewMaps, Past]:
        past1, past2 = past or (None, None)
        h, past1 = self.conv1(x, past1, chunk, self.norm1)
        h, past2 = self.conv2(h, past2, chunk, self.norm2)
        return h.add_(self.shortcut(x)), (past1, past2)  # no backward pass needs what the addition overwrites


class FrameAttention(nn.Module):
    """One head of attention among the pixels of each frame, on a residual branch that is zero at birth."""

    def __init__(self, width: int, make_norm: MakeNorm) -> None:
        super().__init__()
        self.norm = make_norm(width)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = zero(nn.Linear(width, width))

    def forward(self, x: Maps, past: Past, chunk: Chunk) -> tuple[Maps, Past]:
        rows = rearrange(self.norm(x, chunk, silu=False), "b c t h w -> b t (h w) c")
        q, k, v = self.to_qkv(rows).chunk(3, dim=-1)
        out = self.to_out(F.scaled_dot_product_attention(q, k, v))
        return x + rearrange(out, "b t (h w) c -> b c t h w", h=x.shape[3]), None
