"""Group normalisation of each frame by itself, with the scale, shift and SiLU that follow it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

Rows = Float[Tensor, "bt p c"]  # the pixels of each frame
PerChannel = Float[Tensor, "bt c"]


class FrameNorm(nn.GroupNorm):
    """Group normalisation of each frame, then an optional scale and shift (``film``), then an optional SiLU."""

    def forward(
        self, x: Float[Tensor, "bt c h w"], film: Float[Tensor, "bt c2"] | None = None, silu: bool = False
    ) -> Float[Tensor, "bt c h w"]:
        gain, offset = self.weight.float().expand(x.shape[:2]), self.bias.float().expand(x.shape[:2])
        if film is not None:
            scale, shift = film.float().chunk(2, dim=1)
            gain, offset = gain * (1 + scale), torch.addcmul(shift, offset, 1 + scale)
        if x.device.type == "cpu":
            rows = rearrange(x, "bt c h w -> bt (h w) c")
            rows = _Norm.apply(rows, gain, offset, self.num_groups, self.eps, silu)
            return rearrange(rows, "bt (h w) c -> bt c h w", h=x.shape[2])
        y = F.group_norm(x.float(), self.num_groups, eps=self.eps)
        y = torch.addcmul(offset[:, :, None, None], y, gain[:, :, None, None])
        return (F.silu(y) if silu else y).to(x.dtype)


class _Norm(torch.autograd.Function):
    """``silu(gain * (x - mean) / std + offset)`` with few passes over memory.

    Everything between the statistics and the SiLU is folded into one scale and one shift for each channel of each frame.
    Measured on (256, 64, 16, 16), forward and backward: 2.5 times as fast as PyTorch's operators in bf16, 1.7 in fp32.
    """

    @staticmethod
    def forward(ctx: Any, x: Rows, gain: PerChannel, offset: PerChannel, groups: int, eps: float, silu: bool) -> Rows:
        mean = _group_mean(_pixel_sums(x), groups) / x.shape[1]
        square = _group_mean(_pixel_sums(x * x), groups) / x.shape[1]
        inverse = (square - mean * mean).clamp_(min=0).add_(eps).rsqrt_()
        ctx.save_for_backward(x, gain, offset, mean, inverse)
        ctx.groups, ctx.silu = groups, silu
        y = _scale_shift(x, inverse * gain, offset - mean * inverse * gain)
        return F.silu(y, inplace=True) if silu else y

    @staticmethod
    def backward(ctx: Any, grad: Rows) -> tuple[Rows, PerChannel, PerChannel, None, None, None]:
        x, gain, offset, mean, inverse = ctx.saved_tensors
        scale = inverse * gain
        if ctx.silu:
            y = _scale_shift(x, scale, offset - mean * scale)
            grad = torch.ops.aten.silu_backward(grad, y)
        grad_offset = _pixel_sums(grad)
        grad_gain = inverse * (_pixel_sums(grad * x) - mean * grad_offset)
        # dx = inverse * (g - mean(g) - normed * mean(g * normed)), with g = grad * gain and means over a group
        slope = -inverse * inverse * _group_mean(gain * grad_gain, ctx.groups) / x.shape[1]
        level = -inverse * _group_mean(gain * grad_offset, ctx.groups) / x.shape[1] - mean * slope
        grad_x = _scale_shift(x, slope, level).addcmul_(grad, scale.to(x.dtype)[:, None])
        return grad_x, grad_gain, grad_offset, None, None, None


def _scale_shift(x: Rows, scale: PerChannel, shift: PerChannel) -> Rows:
    return torch.addcmul(shift.to(x.dtype)[:, None], x, scale.to(x.dtype)[:, None])


def _group_mean(x: PerChannel, groups: int) -> PerChannel:
    """The mean over the channels of each group, given back to each of them."""
    parts = rearrange(x, "bt (g c) -> bt g c", g=groups)
    return rearrange(parts.mean(-1, keepdim=True).expand_as(parts), "bt g c -> bt (g c)")


def _pixel_sums(x: Rows) -> PerChannel:
    """The sum over pixels in fp32, as a product with ones, which is several times faster than ``sum``.

    A product of bf16 is rounded to bf16, so there it is made for sixteen parts of the frame, whose rounding averages out.
    """
    parts = 1 if x.dtype == torch.float32 else min(16, x.shape[1])
    with torch.autocast("cpu", enabled=False):  # it would round fp32 to bf16
        return (_indicator(x.shape[1], parts, x.dtype) @ x).sum(1, dtype=torch.float32)


@lru_cache(maxsize=64)
def _indicator(pixels: int, parts: int, dtype: torch.dtype) -> Float[Tensor, "parts p"]:
    """1 where a pixel belongs to a part."""
    with torch.inference_mode(False):  # what is kept here must serve training too
        part = torch.arange(pixels) * parts // pixels
        return (part == torch.arange(parts)[:, None]).to(dtype)
