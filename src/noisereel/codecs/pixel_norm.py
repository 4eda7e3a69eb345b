"""RMS normalisation over the channels of each pixel, with the SiLU that follows it."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from noisereel.codecs.causal import Chunk, Maps

Rows = Float[Tensor, "*pixels c"]
TINY = 1e-12  # what the root mean square is at least


class PixelNorm(nn.Module):
    """RMS normalisation over the channels of each pixel, so that neither frames nor places mix; then an optional SiLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Maps, chunk: Chunk, silu: bool = True) -> Maps:
        rows = x.movedim(1, -1)  # contiguous, as maps are in channels-last memory
        if x.device.type == "cpu":
            return _Norm.apply(rows, self.gain, silu).movedim(-1, 1)
        rows = F.rms_norm(rows, self.gain.shape, self.gain.to(x.dtype), eps=TINY**2)
        return (F.silu(rows) if silu else rows).movedim(-1, 1)


class _Norm(torch.autograd.Function):
    """``silu(gain * x / rms(x))`` with few passes over memory.

    Measured on (4, 9, 32, 32, 48) forward and backward: 1.7 times as fast as PyTorch's operators in bf16 and in fp32.
    """

    @staticmethod
    def forward(ctx: Any, x: Rows, gain: Float[Tensor, c], silu: bool) -> Rows:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True).mul_(x.shape[-1] ** -0.5).clamp_(min=TINY)
        y = (x / norm).mul_(gain.to(x.dtype))
        if not any(ctx.needs_input_grad):
            return F.silu(y, inplace=True) if silu else y
        ctx.save_for_backward(x, y, gain, norm)
        ctx.silu = silu
        return F.silu(y) if silu else y

    @staticmethod
    def backward(ctx: Any, grad: Rows) -> tuple[Rows, Float[Tensor, c], None]:
        x, y, gain, norm = ctx.saved_tensors
        if ctx.silu:
            grad = torch.ops.aten.silu_backward(grad, y)
        # PyTorch's kernel for layer normalisation, told that the mean is 0; it takes the gradient through that mean too,
        # and what it took is given back.
        inverse = norm.float().reciprocal()
        weight = gain.float()
        grad_x, grad_gain, _ = torch.ops.aten.native_layer_norm_backward(
            grad.contiguous(), x, gain.shape, torch.zeros_like(inverse), inverse, weight, weight, [True, True, False]
        )
        with torch.autocast("cpu", enabled=False):
            taken = (grad @ gain.to(grad.dtype))[..., None] * (inverse / x.shape[-1]).to(grad.dtype)
        return grad_x.add_(taken), grad_gain, None
