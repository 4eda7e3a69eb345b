"""The block of the spacetime transformer: attention among all tokens of a clip, attention to text, a feed-forward layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from noisereel.nets.fused import Heads, Rotation, Spans, Tokens, attend, gated, rms_norm, turn
from noisereel.nets.layers import zero
from noisereel.nets.modulation import Modulation, modulated

QK_NORMS = ("none", "layer", "rms")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One clip of a sequence: its tokens follow one another and attend only to themselves and to its text."""

    length: int
    mask: Bool[Tensor, "b m"] | None = None  # which of its first tokens, the text, may be looked at
    text: Float[Tensor, "b m c"] | None = None  # where text is not part of the sequence
    text_mask: Bool[Tensor, "b m"] | None = None
    image: Float[Tensor, "b i c"] | None = None


@dataclass(frozen=True, kw_only=True)
class Context:
    """What every block sees besides the tokens."""

    embedding: Float[Tensor, "b r e"]
    common: Float[Tensor, "b r n c"] | None  # what blocks with a table add it to
    spans: Spans
    segments: tuple[Segment, ...]
    rotation: Rotation | None = None


def qk_norm(kind: str, width: int, heads: int) -> nn.Module:
    """A norm of queries or keys: none, "layer" of each head (CogVideoX), or "rms" over all heads (Wan)."""
    if kind == "layer":
        return nn.LayerNorm(width // heads, eps=1e-6)
    return WideRMSNorm(width, eps=1e-6) if kind == "rms" else nn.Identity()


class WideRMSNorm(nn.RMSNorm):
    """Root-mean-square norm over all heads at once."""

    def forward(self, x: Tokens) -> Tokens:
        assert self.eps is not None
        return rms_norm(x, self.weight, self.eps)


class SelfAttention(nn.Module):
    """Attention among the tokens of each segment."""

    def __init__(self, width: int, heads: int, norm: str) -> None:
        super().__init__()
        self.heads, self.norm = heads, norm
        self.qkv = nn.Linear(width, 3 * width)
        self.norm_q, self.norm_k = qk_norm(norm, width, heads), qk_norm(norm, width, heads)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tokens, context: Context) -> Tokens:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k = (self._prepared(norm, y, context) for norm, y in ((self.norm_q, q), (self.norm_k, k)))
        v = split_heads(v, self.heads)
        lengths = [segment.length for segment in context.segments]
        apart = zip(*(y.split(lengths, dim=2) for y in (q, k, v)), context.segments, strict=True)
        outs = [attend(q, k, v, segment.mask) for q, k, v, segment in apart]
        return self.out(rearrange(torch.cat(outs, dim=2) if len(outs) > 1 else outs[0], "b heads l d -> b l (heads d)"))

    def _prepared(self, norm: nn.Module, y: Tokens, context: Context) -> Heads:
        y = normed(norm, y, self.heads)
        return y if context.rotation is None else turn(y, context.rotation)


class TextAttention(nn.Module):
    """Attention of the tokens of each segment to its text and, added to it, to the tokens of an image; 0 at birth."""

    def __init__(self, width: int, heads: int, norm: str, *, image: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.norm_q, self.norm_k = qk_norm(norm, width, heads), qk_norm(norm, width, heads)
        self.image_kv = nn.Linear(width, 2 * width) if image else None
        self.norm_image_k = qk_norm(norm, width, heads) if image else None
        self.out = zero(nn.Linear(width, width))

    def forward(self, x: Tokens, context: Context) -> Tokens:
        lengths = [segment.length for segment in context.segments]
        q = normed(self.norm_q, self.q(x), self.heads)
        outs = [self._one(part, segment) for part, segment in zip(q.split(lengths, dim=2), context.segments, strict=True)]
        return self.out(rearrange(torch.cat(outs, dim=2) if len(outs) > 1 else outs[0], "b heads l d -> b l (heads d)"))

    def _one(self, q: Heads, segment: Segment) -> Heads:
        if segment.text is None:
            return torch.zeros_like(q)
        k, v = self.kv(segment.text).chunk(2, dim=-1)
        out = attend(q, normed(self.norm_k, k, self.heads), split_heads(v, self.heads), segment.text_mask)
        if self.image_kv is not None and self.norm_image_k is not None and segment.image is not None:
            k, v = self.image_kv(segment.image).chunk(2, dim=-1)
            out = out + attend(q, normed(self.norm_image_k, k, self.heads), split_heads(v, self.heads), None)
        return out


class LinearGELU(nn.Linear):
    """A linear layer and a GELU, exact or approximated by a hyperbolic tangent."""

    def __init__(self, width: int, out_width: int, approximate: str) -> None:
        super().__init__(width, out_width)
        self.approximate = approximate

    def forward(self, x: Tokens) -> Float[Tensor, "b l inner"]:
        return F.gelu(super().forward(x), approximate=self.approximate)


class MLP(nn.Module):
    """Two linears around a GELU."""

    def __init__(self, width: int, inner: int, gelu: str) -> None:
        super().__init__()
        self.up, self.down = LinearGELU(width, inner, gelu), nn.Linear(inner, width)

    def forward(self, x: Tokens) -> Tokens:
        return self.down(self.up(x))


class Block(nn.Module):
    """Attention, attention to text, feed-forward: residual branches, of which the embedding moves the first and last.

    Where text is part of the sequence it shares every weight with the video but the modulation (CogVideoX's expert
    adaptive layer norm). The block is the identity at birth.
    """

    def __init__(
        self, width: int, heads: int, *, inner: int, embed_width: int, text: str, shared: bool, qk_norm: str, gelu: str,
        affine: bool, eps: float, image: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.streams = 2 if text == "joint" else 1
        self.modulation = Modulation(embed_width, width, 6 * self.streams, shared=shared)
        self.norm1 = nn.LayerNorm(width, eps, affine)
        self.attention = SelfAttention(width, heads, qk_norm)
        self.text_norm = nn.LayerNorm(width, eps) if text == "cross" else None
        self.text_attention = TextAttention(width, heads, qk_norm, image=image) if text == "cross" else None
        self.norm2 = nn.LayerNorm(width, eps, affine)
        self.feed_forward = MLP(width, inner, gelu)

    def forward(self, x: Tokens, context: Context) -> Tokens:
        first, last = self._moves(context)
        shift, scale, gate = first
        x = gated(x, self.attention(modulated(self.norm1, x, shift, scale, context.spans), context), gate, context.spans)
        if self.text_norm is not None and self.text_attention is not None:
            x = x + self.text_attention(self.text_norm(x), context)
        shift, scale, gate = last
        return gated(x, self.feed_forward(modulated(self.norm2, x, shift, scale, context.spans)), gate, context.spans)

    def _moves(self, context: Context) -> Float[Tensor, "2 3 b rows c"]:
        """Shift, scale and gate of both branches; rows are ordered embedding, then video and text."""
        moves = self.modulation(context.embedding, context.common)
        shape = "b r (branch stream kind) c -> branch kind b (r stream) c"
        return rearrange(moves, shape, branch=2, stream=self.streams, kind=3)


def split_heads(y: Tokens, heads: int) -> Heads:
    return rearrange(y, "b l (heads d) -> b heads l d", heads=heads)


def normed(norm: nn.Module, y: Tokens, heads: int) -> Heads:
    """Queries or keys after their norm, which works on each head or on all of them."""
    if isinstance(norm, nn.LayerNorm):
        return norm(split_heads(y, heads))
    return split_heads(norm(y), heads)
