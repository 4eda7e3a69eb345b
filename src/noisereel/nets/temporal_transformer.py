"""The transformer block over time of the U-Nets that grew out of Stable Diffusion."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from noisereel.nets.attention import Attention, FeedForward, cross, pixels
from noisereel.nets.layers import Context, Maps, zero
from noisereel.nets.norm import FrameNorm
from noisereel.nets.temporal import TemporalAttention, clip_norm

Rows = Float[Tensor, "bt p c"]


class TemporalTransformer(nn.Module):
    """Attention of each pixel to itself in the other frames, a second attention, and a perceptron: a residual branch.

    Args:
        second: "text" (Video LDM's text-to-video network) or "twice", the frames once more (text-to-video-sd).
        head_width: of an attention head; the block is ``heads * head_width`` wide inside.
        clip_norms: normalise all frames of a clip together.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        positions: str,
        *,
        second: str,
        head_width: int,
        text_dim: int = 0,
        norm_groups: int = 32,
        clip_norms: bool = False,
    ) -> None:
        super().__init__()
        inner, text = heads * head_width, second == "text"
        self.clip_norms = clip_norms
        self.norm = FrameNorm(norm_groups, width, eps=1e-6)
        self.proj_in = nn.Linear(width, inner)
        self.attention = TemporalAttention(inner, heads, positions)
        self.again = None if text else TemporalAttention(inner, heads, positions)
        self.text_norm = nn.LayerNorm(inner) if text else None
        self.text_attention = Attention(inner, heads, text_dim) if text else None
        self.feed_norm, self.feed_forward = nn.LayerNorm(inner), FeedForward(inner)
        self.proj_out = zero(nn.Linear(inner, width))

    def forward(self, x: Maps, context: Context) -> Maps:
        height = x.shape[2]
        x = clip_norm(self.norm, x, context.frames) if self.clip_norms else self.norm(x)
        y = self.proj_in(pixels(x))
        y = y + over_time(self.attention, y, context, height)
        y = y + self._second(y, context, height)
        y = y + self.feed_forward(self.feed_norm(y))
        return rearrange(self.proj_out(y), "bt (h w) c -> bt c h w", h=height)

    def _second(self, y: Rows, context: Context, height: int) -> Rows:
        if self.again is not None:
            return over_time(self.again, y, context, height)
        assert self.text_norm is not None
        assert self.text_attention is not None
        return cross(self.text_attention, self.text_norm(y), context)


def over_time(attention: TemporalAttention, y: Rows, context: Context, height: int) -> Rows:
    """Temporal attention of rows of pixels."""
    return pixels(attention(rearrange(y, "bt (h w) c -> bt c h w", h=height), context))
