"""The transformer block that small encoders are made of."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn


class Block(nn.Module):
    """Pre-norm self-attention and a feed-forward layer; ``attend`` says which tokens (last) a token may look at."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.feed = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Float[Tensor, "n l d"], attend: Bool[Tensor, "#n #q l"]) -> Float[Tensor, "n l d"]:
        x = x + self._attention(self.norm1(x), attend)
        return x + self.feed(self.norm2(x))

    def _attention(self, x: Float[Tensor, "n l d"], attend: Bool[Tensor, "#n #q l"]) -> Float[Tensor, "n l d"]:
        q, k, v = rearrange(self.qkv(x), "n l (three heads c) -> three n heads l c", three=3, heads=self.heads)
        # Written out: PyTorch's fused kernel is ten times slower backwards in bf16 on a CPU for 16 tokens (43 ms to 4 ms).
        scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
        weights = scores.masked_fill(~attend[:, None], -torch.inf).softmax(dim=-1)
        return self.out(rearrange(weights @ v, "n heads l c -> n l (heads c)"))
