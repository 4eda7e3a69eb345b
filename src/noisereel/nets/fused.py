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
Spans = tuple[tuple[int, range], ...]  # how many tokens come next, and the rows that share them equally, in order
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
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def spread(rows: Rows, spans: Spans) -> Float[Tensor, "b #l c"]:
    """The row of each token; one for all of them where there is only one."""
    parts = [part.squeeze(2) for part in rows_of(rows, spans)]
    if len(parts) == 1 and parts[0].shape[1] == 1:
        return parts[0]
    counts = [count // len(some) for count, some in spans]
    return torch.cat([part.repeat_interleave(count, dim=1) for part, count in zip(parts, counts, strict=True)], dim=1)


def tokens_of(x: Tokens, spans: Spans) -> Iterator[Float[Tensor, "b n k c"]]:
    """Of each span the tokens of each row; views."""
    start = 0
    for count, rows in spans:
        yield x[:, start : start + count].unflatten(1, (len(rows), -1))
        start += count


def rows_of(x: Rows, spans: Spans) -> Iterator[Float[Tensor, "b n 1 c"]]:
    """The rows of each span; views."""
    for _, rows in spans:
        yield x[:, rows.start : rows.stop : rows.step, None]


class AdaptiveNorm(torch.autograd.Function):
    """``adaptive_norm``; everything behind the statistics is one scale and one shift."""

    @staticmethod
    def forward(ctx: Any, x: Tokens, gain: Rows, offset: Rows, spans: Spans, eps: float) -> Tokens:
        # With weights of fp32 the kernel also keeps the statistics so.
        ones = x.new_ones(x.shape[-1], dtype=torch.promote_types(x.dtype, torch.float32))
        normed, mean, inverse = torch.native_layer_norm(x, x.shape[-1:], ones, None, eps)
        ctx.save_for_backward(x, normed, mean, inverse, ones, gain)
        ctx.spans = spans
        out = torch.empty_like(x)
        rows = (rows_of(row.to(x.dtype), spans) for row in (gain, offset))
        for result, part, scale, shift in zip(tokens_of(out, spans), tokens_of(normed, spans), *rows, strict=True):
            torch.addcmul(shift, part, scale, out=result)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tokens) -> tuple[Tokens, Rows, Rows, None, None]:
        x, normed, mean, inverse, ones, gain = ctx.saved_tensors
        product = grad * normed
        grad_gain, grad_offset = span_sums(product, gain, ctx.spans), span_sums(grad, gain, ctx.spans)
        scaled = scale_spans(grad, gain, ctx.spans, out=product)
        shape, wanted = list(x.shape[-1:]), [True, False, False]
        grad_x = torch.ops.aten.native_layer_norm_backward(scaled, x, shape, mean, inverse, ones, None, wanted)[0]
        return grad_x, grad_gain, grad_offset, None, None


class Gated(torch.autograd.Function):
    """``gated``."""

    @staticmethod
    def forward(ctx: Any, x: Tokens, branch: Tokens, gate: Rows, spans: Spans) -> Tokens:
        ctx.save_for_backward(branch, gate)
        ctx.spans = spans
        out = torch.empty_like(x)
        tokens = (tokens_of(y, spans) for y in (out, x, branch))
        for result, base, part, scale in zip(*tokens, rows_of(gate.to(x.dtype), spans), strict=True):
            torch.addcmul(base, part, scale, out=result)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tokens) -> tuple[Tokens, Tokens, Rows, None]:
        branch, gate = ctx.saved_tensors
        product = grad * branch
        grad_gate = span_sums(product, gate, ctx.spans)
        return grad, scale_spans(grad, gate, ctx.spans, out=product), grad_gate, None


def scale_spans(x: Tokens, rows: Rows, spans: Spans, out: Tokens) -> Tokens:
    """Every token times its row."""
    scales = rows_of(rows.to(x.dtype), spans)
    for result, part, scale in zip(tokens_of(out, spans), tokens_of(x, spans), scales, strict=True):
        torch.mul(part, scale, out=result)
    return out


def span_sums(x: Tokens, rows: Rows, spans: Spans) -> Rows:
    """The sum over the tokens of each row, for the gradient of what was spread over them."""
    sums = torch.zeros_like(rows)
    for total, part in zip(rows_of(sums, spans), tokens_of(x, spans), strict=True):
        total += part.sum(2, keepdim=True)
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
