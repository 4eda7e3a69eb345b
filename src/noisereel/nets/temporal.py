"""The parts that mix frames, each only within a clip, and each the identity at birth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from noisereel.nets.attention import attend, rotary_angles, rotate
from noisereel.nets.frames import Frames
from noisereel.nets.layers import Context, Conv, Maps, NewMaps, ResBlock, sinusoid, zero
from noisereel.nets.norm import FrameNorm

Clips = Float[Tensor, "b c t p"]  # p pixels; a free view of channels-last maps
Pixels = Float[Tensor, "b t p c"]  # likewise
Rows = Float[Tensor, "b m t d"]  # m = pixels * heads


def as_clips(x: Maps, frames: Frames) -> Clips:
    """Maps as images of ``t`` rows and ``h * w`` columns, in which time is a direction like another."""
    return rearrange(x, "(b t) c h w -> b c t (h w)", b=frames.samples)


def as_maps(x: Clips, height: int) -> Maps:
    """The inverse of ``as_clips``."""
    return rearrange(x, "b c t (h w) -> (b t) c h w", h=height)


class TemporalConv(nn.Module):
    """A convolution over three frames of a clip; exactly 0 for a frame that stands alone.

    It runs as a 2-D convolution over (t, h * w), faster on a CPU than ``conv1d`` and without a copy.
    """

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, out_width, (3, 1), padding=(1, 0))

    def forward(self, x: Maps, frames: Frames) -> NewMaps:
        if frames.same is not None:
            return self._gathered(x, frames)
        if frames.alone:
            return x.new_zeros(len(x), self.conv.out_channels, *x.shape[2:]).to(memory_format=torch.channels_last)
        clips = as_clips(x, frames)
        out = self.conv(clips[:, :, : frames.clip])
        return as_maps(F.pad(out, (0, 0, 0, frames.count - frames.clip)), x.shape[2])

    def _gathered(self, x: Maps, frames: Frames) -> NewMaps:
        """Any grouping: fetch each frame's neighbours in its clip and apply the three taps as one 1x1 convolution."""
        clips = rearrange(x, "(b t) c h w -> b t c h w", b=frames.samples)
        padded = F.pad(clips, (0, 0, 0, 0, 0, 0, 1, 0))
        sample = torch.arange(frames.samples, device=x.device)[:, None]
        before, after = frames.neighbours()
        taps = torch.cat([padded[sample, before], clips, padded[sample, after]], dim=2)
        weight = rearrange(self.conv.weight, "o c taps 1 -> o (taps c) 1 1")
        out = F.conv2d(rearrange(taps, "b t c h w -> (b t) c h w"), weight, self.conv.bias)
        return out * rearrange(frames.mixing(out), "b t -> (b t) 1 1 1")


class SeriesConv(nn.Module):
    """A spatial convolution followed by a temporal one that is the identity at birth (Make-A-Video, section 3.2.1)."""

    def __init__(self, spatial: Conv) -> None:
        super().__init__()
        self.spatial = spatial
        self.temporal = TemporalConv(spatial.out_channels, spatial.out_channels)
        nn.init.dirac_(zero(self.temporal.conv).weight)

    def forward(self, x: Maps, frames: Frames) -> NewMaps:
        x = self.spatial(x, frames)
        if frames.alone:
            return x
        mixed = self.temporal(x, frames)
        if frames.clip == frames.count:
            return mixed
        return torch.where(rearrange(frames.mixing(x) > 0, "b t -> (b t) 1 1 1"), mixed, x)


class RelativePositions(nn.Module):
    """Learned vectors for the distance between two frames, added to keys and values (Shaw et al. 2018, eq. 3 and 4)."""

    def __init__(self, width: int, reach: int = 32) -> None:
        super().__init__()
        self.reach = reach
        self.keys = nn.Parameter(torch.randn(2 * reach + 1, width) * width**-0.5)
        # Not zero: among frames that are all alike, as noise is to begin with, only these tell one from another.
        self.values = nn.Parameter(torch.randn(2 * reach + 1, width) * width**-0.5)

    def attend(self, q: Rows, k: Rows, v: Rows, positions: Int[Tensor, "#b t"], mask: Bool[Tensor, "#b t t"] | None) -> Rows:
        """``attend`` with these positions; SDPA has no place for vectors added to the values."""
        distance = positions[:, None, :] - positions[:, :, None]
        distance = distance.clamp(-self.reach, self.reach) + self.reach
        keys, values = self.keys[distance].to(q), self.values[distance].to(q)
        logits = q @ k.mT + torch.einsum("bmid,bijd->bmij", q, keys)
        if mask is not None:
            logits = logits.masked_fill(~mask[:, None], -torch.inf)
        weights = (logits * q.shape[-1] ** -0.5).softmax(-1)
        return weights @ v + torch.einsum("bmij,bijd->bmid", weights, values)


class TemporalAttention(nn.Module):
    """Attention of a pixel to the same pixel of the other frames of its clip; a frame that stands alone sees itself.

    ``positions`` says how it knows the order of frames: "relative" (Shaw et al. 2018), "sinusoidal", "rotary", or not at
    all, "unordered". Rotary positions turn queries and keys only: among frames that are all alike, as noise is to begin with,
    they do not say which comes first, and something else in the network has to (the padding of temporal convolutions does).
    """

    def __init__(self, width: int, heads: int, positions: str) -> None:
        super().__init__()
        self.heads, self.positions = heads, positions
        self.norm = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(width, width, bias=False)
        self.to_v = nn.Linear(width, width, bias=False)
        self.to_out = zero(nn.Linear(width, width))
        self.relative = RelativePositions(width // heads) if positions == "relative" else None

    def forward(self, x: Maps, context: Context) -> Maps:
        frames = context.frames
        y = self.norm(rearrange(x, "(b t) c h w -> b t (h w) c", b=frames.samples))
        positions = frames.positions(x.device)
        if self.positions == "sinusoidal":
            y = y + sinusoid(positions, y.shape[-1]).to(y.dtype)[:, :, None]
        out = self.to_out(self._mix(y, frames, positions))
        return rearrange(out, "b t (h w) c -> (b t) c h w", h=x.shape[2])

    def _mix(self, y: Pixels, frames: Frames, positions: Int[Tensor, "#b t"]) -> Pixels:
        v = self.to_v(y)
        if frames.alone:
            return self._own(v)
        length = frames.clip or frames.count
        q, k = self.to_q(y[:, :length]), self.to_k(y[:, :length])
        out = self._attend(q, k, v[:, :length], positions[:, :length], frames.visible(y.device))
        return out if length == frames.count else torch.cat([out, self._own(v[:, length:])], dim=1)

    def _own(self, v: Pixels) -> Pixels:
        """What attention gives a frame that sees only itself: its value, at distance 0."""
        if self.relative is None:
            return v
        return v + self.relative.values[self.relative.reach].to(v.dtype).repeat(self.heads)

    def _attend(
        self, q: Pixels, k: Pixels, v: Pixels, positions: Int[Tensor, "#b t"], mask: Bool[Tensor, "#b t t"] | None
    ) -> Pixels:
        # Pixels and heads are one axis of rows, in the order they have in memory: attention needs no copy.
        q, k, v = (rearrange(z, "b t p (heads d) -> b (p heads) t d", heads=self.heads) for z in (q, k, v))
        if self.relative is not None:
            out = self.relative.attend(q, k, v, positions, mask)
        else:
            if self.positions == "rotary":
                angles = rotary_angles(positions, q.shape[-1])[:, None]
                q, k = rotate(q, angles), rotate(k, angles)
            out = attend(q, k, v, None if mask is None else mask[:, None])
        return rearrange(out, "b (p heads) t d -> b t p (heads d)", heads=self.heads)


class Temporal(nn.Module):
    """A residual branch that mixes frames: ``x + branch(x)``.

    With ``blend`` it is Video LDM's ``alpha * x + (1 - alpha) * (x + branch(x))`` (Blattmann et al. 2023, eq. 3) with a
    learned alpha, and a frame that stands alone has alpha = 1: the image network exactly.
    """

    def __init__(self, branch: nn.Module, blend: bool) -> None:
        super().__init__()
        self.branch = branch
        self.mix = nn.Parameter(torch.zeros(())) if blend else None  # alpha = sigmoid(mix)

    def forward(self, x: Maps, context: Context) -> Maps:
        if self.mix is None:
            return x + self.branch(x, context)
        if context.frames.alone:
            return x
        weight = torch.sigmoid(-self.mix.float()) * context.frames.mixing(self.mix)
        return x + self.branch(x, context) * rearrange(weight, "b t -> (b t) 1 1 1").to(x.dtype)


class TemporalBranch(ResBlock):
    """The residual branch of a ``ResBlock`` whose convolutions run over time, and zero at birth like it.

    On ``level`` it also sees what the temporal layers of that level are given, and what they are told besides.
    """

    def __init__(self, width: int, embed_width: int, *, level: int = 0, **settings: Any) -> None:
        super().__init__(width, width, embed_width, make_conv=TemporalConv, **settings)
        self.level = level

    def forward(self, x: Maps, context: Context) -> Maps:
        if context.temporal_embedding is not None:
            context = replace(context, embedding=context.temporal_embedding)
        return self.branch(x + context.hints[self.level] if context.hints else x, context)


class DeepTemporalBranch(nn.Module):
    """Norm, SiLU, convolution over time, four times, deaf to the noise level; zero at birth (text-to-video-sd)."""

    def __init__(self, width: int, *, norm_groups: int, clip_norms: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.clip_norms = clip_norms
        self.norms = nn.ModuleList(FrameNorm(norm_groups, width) for _ in range(4))
        self.convs = nn.ModuleList(TemporalConv(width, width) for _ in range(4))
        self.dropout = nn.Dropout(dropout)
        zero(self.convs[-1])

    def forward(self, x: Maps, context: Context) -> Maps:
        for number, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            assert isinstance(norm, FrameNorm)
            x = clip_norm(norm, x, context.frames, silu=True) if self.clip_norms else norm(x, silu=True)
            x = conv(self.dropout(x) if number else x, context.frames)
        return x


def clip_norm(norm: FrameNorm, x: Maps, frames: Frames, silu: bool = False) -> Maps:
    """``norm`` with statistics over all frames of a clip together; it needs the whole clip, and lets its frames leak."""
    if frames.clip == frames.count:  # the frames one above another are one large frame, a free view of channels-last maps
        tall = norm(rearrange(x, "(b t) c h w -> b c (t h) w", b=frames.samples), silu=silu)
        return rearrange(tall, "b c (t h) w -> (b t) c h w", t=frames.count)
    shares = frames.shares(x.float())
    y = rearrange(x.float(), "(b t) (g c) h w -> b t g (c h w)", b=frames.samples, g=norm.num_groups)
    mean = shares @ y.mean(-1)
    variance = shares @ y.square().mean(-1) - mean.square()
    y = (y - mean[..., None]) * (variance.clamp(min=0) + norm.eps).rsqrt()[..., None]
    y = rearrange(y, "b t g (c h w) -> (b t) (g c) h w", h=x.shape[2], w=x.shape[3])
    y = y * rearrange(norm.weight.float(), "c -> c 1 1") + rearrange(norm.bias.float(), "c -> c 1 1")
    return (F.silu(y) if silu else y).to(x.dtype)


class HintEncoder(nn.Module):
    """Given frames at the size and width of every level, by learned down-sampling (Video LDM, section 3.2).

    Without biases: where nothing is given, which is zeros, nothing comes out.
    """

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        strides = [1] + [2] * (len(widths) - 1)
        self.convs = nn.ModuleList(
            nn.Conv2d(width, out_width, 3, padding=1, stride=stride, bias=False)
            for width, out_width, stride in zip([channels, *widths], widths, strides, strict=False)
        )

    def forward(self, x: Maps) -> tuple[Float[Tensor, "bt _ _ _"], ...]:
        levels = [self.convs[0](x)]
        for conv in self.convs[1:]:
            levels.append(conv(F.silu(levels[-1])))
        return tuple(levels)
