"""Scales, shifts and gates that an embedding brings to the spans of a sequence (adaptive layer norm)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from noisereel.nets.fused import Rows, Spans, Tokens, adaptive_norm
from noisereel.nets.layers import zero


class Modulation(nn.Module):
    """``count`` vectors for each row of an embedding; 0 at birth.

    They come from a linear layer of its own (DiT, Peebles & Xie 2023; CogVideoX) or, where ``shared``, are a table added
    to what one linear layer of the whole network gives (PixArt-alpha, Chen et al. 2023, section 2.3; Wan).
    """

    def __init__(self, embed_width: int, width: int, count: int, *, shared: bool) -> None:
        super().__init__()
        self.count = count
        self.table = nn.Parameter(torch.zeros(1, count, width)) if shared else None
        self.linear = nn.Identity() if shared else zero(nn.Linear(embed_width, count * width))

    def forward(self, embedding: Float[Tensor, "b r e"], common: Float[Tensor, "b r _ _"] | None) -> Float[Tensor, "b r n c"]:
        if self.table is None:
            return rearrange(self.linear(F.silu(embedding)), "b r (n c) -> b r n c", n=self.count)
        assert common is not None
        return common + self.table[:, None].to(common.dtype)


def modulated(norm: nn.LayerNorm, x: Tokens, shift: Rows, scale: Rows, spans: Spans) -> Tokens:
    """``norm(x) * (1 + scale) + shift``, each span with its row."""
    gain, offset = 1 + scale.float(), shift.float()
    if norm.weight is not None:
        gain, offset = gain * norm.weight, torch.addcmul(offset, gain, norm.bias)
    return adaptive_norm(x, gain, offset, spans, norm.eps)
