"""One attention function, positions for it, and the spatial attention blocks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn

from noisereel.nets.layers import Context, Maps, zero
from noisereel.nets.norm import FrameNorm

Queries = Float[Tensor, "*b heads q d"]
Keys = Float[Tensor, "*b heads k d"]


def attend(q: Queries, k: Keys, v: Keys, mask: Bool[Tensor, "..."] | None = None) -> Queries:
    """Softmax attention of every query over the keys that ``mask`` (True: may look) allows it."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and k.shape[-2] <= 256:
        # Written out: PyTorch's fused kernel is 5 to 9 times slower backwards in bf16 on a CPU for short sequences.
        logits = (q * q.shape[-1] ** -0.5) @ k.mT
        if mask is not None:
            logits = logits.masked_fill(~mask, -torch.inf)
        return logits.softmax(-1).to(v.dtype) @ v
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def rotate(x: Float[Tensor, "... d"], angles: Float[Tensor, "... half"]) -> Float[Tensor, "... d"]:
    """Rotary positions (Su et al. 2021, eq. 34): turns component i and i + d/2 of ``x`` by angle i.

    The logit of two rotated vectors depends on the difference of their angles alone. Angles for several axes are
    concatenated; ``angles`` broadcasts against ``x``.
    """
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def rotary_angles(positions: Num[Tensor, "*n"], width: int, period: float = 10_000.0) -> Float[Tensor, "*n half"]:
    """The angles of ``rotate`` for heads of ``width`` along one axis."""
    half = width // 2
    frequencies = period ** (-torch.arange(half, device=positions.device, dtype=torch.float32) / half)
    return positions[..., None] * frequencies


class Attention(nn.Module):
    """Attention of pixels to one another (``text_width == 0``) or to text, with heads; the output is zero at birth."""

    def __init__(self, width: int, heads: int, text_width: int = 0) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(text_width or width, width, bias=False)
        self.to_v = nn.Linear(text_width or width, width, bias=False)
        self.to_out = zero(nn.Linear(width, width))

    def forward(
        self,
        x: Float[Tensor, "s p c"],
        tokens: Float[Tensor, "s l d"] | None = None,
        mask: Bool[Tensor, "s l"] | None = None,
    ) -> Float[Tensor, "s p c"]:
        tokens = x if tokens is None else tokens
        split = "s l (heads d) -> s heads l d"
        q, k, v = (
            rearrange(project(y), split, heads=self.heads)
            for project, y in ((self.to_q, x), (self.to_k, tokens), (self.to_v, tokens))
        )
        out = attend(q, k, v, None if mask is None else mask[:, None, None, :])
        return self.to_out(rearrange(out, "s heads l d -> s l (heads d)"))


def pixels(x: Maps) -> Float[Tensor, "bt p c"]:
    """The pixels of each frame as a sequence; a free view in channels-last memory."""
    return rearrange(x, "bt c h w -> bt (h w) c")


def cross(attention: Attention, x: Float[Tensor, "bt p c"], context: Context) -> Float[Tensor, "bt p c"]:
    """Attention of every pixel to the text of its clip."""
    assert context.tokens is not None
    rows = rearrange(x, "(s j) p c -> s (j p) c", s=len(context.tokens))
    return attention(rows, context.tokens, context.mask).reshape(x.shape)


class SpatialAttention(nn.Module):
    """Attention among the pixels of a frame and, if there is text, to it: a residual branch each."""

    def __init__(self, width: int, heads: int, *, text_dim: int = 0, norm_groups: int = 32) -> None:
        super().__init__()
        self.norm = FrameNorm(norm_groups, width)
        self.attention = Attention(width, heads)
        self.text_norm = nn.LayerNorm(width) if text_dim else None
        self.text_attention = Attention(width, heads, text_dim) if text_dim else None

    def forward(self, x: Maps, context: Context) -> Maps:
        y = pixels(x) + self.attention(pixels(self.norm(x)))
        if self.text_norm is not None and self.text_attention is not None:
            y = y + cross(self.text_attention, self.text_norm(y), context)
        return rearrange(y, "bt (h w) c -> bt c h w", h=x.shape[2])


class FeedForward(nn.Module):
    """Two linears around a gated GELU (Shazeer 2020), four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 8 * width)
        self.down = zero(nn.Linear(4 * width, width))

    def forward(self, x: Float[Tensor, "s p c"]) -> Float[Tensor, "s p c"]:
        value, gate = self.up(x).chunk(2, dim=-1)
        return self.down(value * F.gelu(gate))


class SpatialTransformer(nn.Module):
    """A transformer block over the pixels of a frame, as in latent diffusion (Rombach et al. 2022, appendix E.2.1)."""

    def __init__(self, width: int, heads: int, *, text_dim: int = 0, norm_groups: int = 32) -> None:
        super().__init__()
        self.norm = FrameNorm(norm_groups, width, eps=1e-6)
        self.proj_in = nn.Linear(width, width)
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        self.norm2 = nn.LayerNorm(width) if text_dim else None
        self.text_attention = Attention(width, heads, text_dim) if text_dim else None
        self.norm3, self.feed_forward = nn.LayerNorm(width), FeedForward(width)
        self.proj_out = zero(nn.Linear(width, width))

    def forward(self, x: Maps, context: Context) -> Maps:
        y = self.proj_in(pixels(self.norm(x)))
        y = y + self.attention(self.norm1(y))
        if self.norm2 is not None and self.text_attention is not None:
            y = y + cross(self.text_attention, self.norm2(y), context)
        y = y + self.feed_forward(self.norm3(y))
        return x + rearrange(self.proj_out(y), "bt (h w) c -> bt c h w", h=x.shape[2])
