"""A transformer's small operations with few passes over memory, forwards and backwards.

Between large products it is these passes that cost: on a CPU, a transformer 256 wide trains twice as fast with them as with
PyTorch's operators one by one. Elsewhere PyTorch's are used, which a compiler folds by itself; both compute the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

Tokens = Float[Tensor, "b l c"]
Rows = Float[Tensor, "b r c"]
Heads = Float[Tensor, "b heads l d"]
Keys = Float[Tensor, "b heads k d"]
Spans = tuple[tuple[int, int], ...]  # how many tokens come next, and which row is theirs
Rotation = tuple[Float[Tensor, "l half"], Float[Tensor, "l half"]]  # cosines and sines

SHORT = 512  # keys up to which attention trains faster written out, in bf16 on a CPU


def adaptive_norm(x: Tokens, gain: Rows, offset: Rows, spans: Spans, eps: float) -> Tokens:
    """``gain * normed(x) + offset``: a layer norm, then each span scaled and shifted by its row."""
    if folds(x):
        return AdaptiveNorm.apply(x, gain, offset, spans, eps)
    y = F.layer_norm(x, x.shape[-1:], eps=eps)
    return torch.addcmul(spread(offset, spans), y, spread(gain, spans)).to(x.dtype)


def gated(x: Tokens, branch: Tokens, gate: Rows, spans: Spans) -> Tokens:
    """``x + gate * branch``, each span with the gate of its row."""
    if folds(x):
        return Gated.apply(x, branch, gate, spans)
    return torch.addcmul(x, branch, spread(gate, spans))


def rms_norm(x: Tokens, weight: Float[Tensor, "c"], eps: float) -> Tokens:
    """``weight * x / sqrt(mean(x**2) + eps)`` over the last axis."""
    return RMSNorm.apply(x, weight, eps) if folds(x) else F.rms_norm(x, weight.shape, weight.to(x.dtype), eps)


def turn(x: Heads, rotation: Rotation) -> Heads:
    """Rotary positions with cosines and sines worked out beforehand, see ``attention.rotate``."""
    cos, sin = (part.to(x.dtype) for part in rotation)
    if folds(x):
        return Turn.apply(x, cos, sin)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def attend(q: Heads, k: Keys, v: Keys, mask: Bool[Tensor, "b m"] | None) -> Heads:
    """Softmax attention, in which the first ``m`` keys are seen only where ``mask`` is True, and all others are."""
    if folds(q) and q.dtype == torch.bfloat16 and k.shape[2] <= SHORT and torch.is_grad_enabled():
        return Attend.apply(q, k, v, mask)
    if mask is not None:
        mask = F.pad(mask, (0, k.shape[2] - mask.shape[1]), value=True)[:, None, None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def folds(x: Tensor) -> bool:
    """Whether the forms with few passes are the faster ones here."""
    return x.device.type == "cpu"


def spread(rows: Rows, spans: Spans) -> Float[Tensor, "b #l c"]:
    """The row of each token; one for all of them where there is one span."""
    if len(spans) == 1:
        return rows[:, spans[0][1], None]
    return torch.cat([rows[:, row, None].expand(-1, count, -1) for count, row in spans], dim=1)


def slices(spans: Spans) -> Iterator[tuple[slice, int]]:
    """Where the tokens of each span are, and which row is theirs."""
    start = 0
    for count, row in spans:
        yield slice(start, start + count), row
        start += count


class AdaptiveNorm(torch.autograd.Function):
    """``adaptive_norm``; everything behind the statistics is one scale and one shift."""

    @staticmethod
    def forward(ctx: Any, x: Tokens, gain: Rows, offset: Rows, spans: Spans, eps: float) -> Tokens:
        normed, mean, inverse = torch.native_layer_norm(x, x.shape[-1:], None, None, eps)
        ctx.save_for_backward(x, normed, mean, inverse, gain)
        ctx.spans = spans
        out, low_gain, low_offset = torch.empty_like(x), gain.to(x.dtype), offset.to(x.dtype)
        for here, row in slices(spans):
            torch.addcmul(low_offset[:, row, None], normed[:, here], low_gain[:, row, None], out=out[:, here])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tokens) -> tuple[Tokens, Rows, Rows, None, None]:
        x, normed, mean, inverse, gain = ctx.saved_tensors
        product = grad * normed
        grad_gain, grad_offset = span_sums(product, gain, ctx.spans), span_sums(grad, gain, ctx.spans)
        scaled, low_gain = product, gain.to(x.dtype)
        for here, row in slices(ctx.spans):
            torch.mul(grad[:, here], low_gain[:, row, None], out=scaled[:, here])
        shape, wanted = list(x.shape[-1:]), [True, False, False]
        grad_x = torch.ops.aten.native_layer_norm_backward(scaled, x, shape, mean, inverse, None, None, wanted)[0]
        return grad_x, grad_gain, grad_offset, None, None


class Gated(torch.autograd.Function):
    """``gated``."""

    @staticmethod
    def forward(ctx: Any, x: Tokens, branch: Tokens, gate: Rows, spans: Spans) -> Tokens:
        ctx.save_for_backward(branch, gate)
        ctx.spans = spans
        out, low_gate = torch.empty_like(x), gate.to(x.dtype)
        for here, row in slices(spans):
            torch.addcmul(x[:, here], branch[:, here], low_gate[:, row, None], out=out[:, here])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tokens) -> tuple[Tokens, Tokens, Rows, None]:
        branch, gate = ctx.saved_tensors
        product, low_gate = grad * branch, gate.to(grad.dtype)
        grad_gate = span_sums(product, gate, ctx.spans)
        for here, row in slices(ctx.spans):
            torch.mul(grad[:, here], low_gate[:, row, None], out=product[:, here])
        return grad, product, grad_gate, None


def span_sums(x: Tokens, rows: Rows, spans: Spans) -> Rows:
    """The sum over the tokens of each row, for the gradient of what was spread over them."""
    sums = torch.zeros_like(rows)
    for here, row in slices(spans):
        sums[:, row] += x[:, here].sum(1)
    return sums


class RMSNorm(torch.autograd.Function):
    """``rms_norm``."""

    @staticmethod
    def forward(ctx: Any, x: Tokens, weight: Float[Tensor, "c"], eps: float) -> Tokens:
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        inverse = (size.square_() / x.shape[-1]).add_(eps).rsqrt_().to(x.dtype)
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).mul_(weight.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tokens) -> tuple[Tokens, Float[Tensor, "c"], None]:
        x, weight, inverse = ctx.saved_tensors
        low = weight.to(x.dtype)
        unit = x * inverse
        product = grad * unit
        slope = (product @ low).div_(-x.shape[-1])[..., None]
        grad_x = torch.mul(grad, low).addcmul_(unit, slope).mul_(inverse)
        return grad_x, product.sum((0, 1)).to(weight.dtype), None


class Turn(torch.autograd.Function):
    """``turn``; the way back is the same the other way."""

    @staticmethod
    def forward(ctx: Any, x: Heads, cos: Float[Tensor, "l half"], sin: Float[Tensor, "l half"]) -> Heads:
        ctx.save_for_backward(cos, sin)
        return turned(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, grad: Heads) -> tuple[Heads, None, None]:
        cos, sin = ctx.saved_tensors
        return turned(grad, cos, -sin), None, None


def turned(x: Heads, cos: Float[Tensor, "l half"], sin: Float[Tensor, "l half"]) -> Heads:
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)  # contiguous, whatever x is
    first, second = x.chunk(2, dim=-1)
    new_first, new_second = out.chunk(2, dim=-1)
    torch.mul(first, cos, out=new_first).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=new_second).addcmul_(first, sin)
    return out


class Attend(torch.autograd.Function):
    """``attend``, written out: PyTorch's fused kernel is up to four times slower backwards in bf16 for few keys."""

    @staticmethod
    def forward(ctx: Any, q: Heads, k: Keys, v: Keys, mask: Bool[Tensor, "b m"] | None) -> Heads:
        ctx.scale = q.shape[-1] ** -0.5
        logits = scaled_product(q, k.mT, ctx.scale)
        if mask is not None:
            logits[..., : mask.shape[1]].masked_fill_(~mask[:, None, None], -torch.inf)
        weights = torch.softmax(logits, -1, out=logits)
        ctx.save_for_backward(q, k, v, weights)
        return weights @ v

    @staticmethod
    def backward(ctx: Any, grad: Heads) -> tuple[Heads, Keys, Keys, None]:
        q, k, v, weights = ctx.saved_tensors
        grad_weights = grad @ v.mT
        # The gradient of a masked logit is 0 because its weight is.
        grad_logits = torch.ops.aten._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
        grad_q = scaled_product(grad_logits, k, ctx.scale)
        return grad_q, scaled_product(grad_logits.mT, q, ctx.scale), weights.mT @ grad, None


def scaled_product(
    a: Float[Tensor, "b heads i j"], b: Float[Tensor, "b heads j k"], scale: float
) -> Float[Tensor, "b heads i k"]:
    """``scale * a @ b`` without a pass for the scale."""
    rows, columns = a.flatten(0, 1), b.flatten(0, 1)
    out = a.new_empty(len(rows), a.shape[2], b.shape[3])
    return torch.baddbmm(out, rows, columns, beta=0, alpha=scale).unflatten(0, a.shape[:2])
