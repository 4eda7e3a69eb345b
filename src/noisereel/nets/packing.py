"""Weights laid out once for the processor, not in every pass: for sampling on a CPU, applied to a network from outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from noisereel.nets.transformer import LinearGELU


@contextmanager
def packed_weights(net: nn.Module) -> Iterator[None]:
    """Inside, the linear layers of ``net.blocks`` run from a copy of their weights in oneDNN's own layout.

    For inference: there are no gradients, and what becomes of the weights meanwhile is not seen. It does nothing where the
    weights are not on a CPU or PyTorch was built without oneDNN.
    """
    linears = [module for module in net.blocks.modules() if isinstance(module, nn.Linear)]  # type: ignore[union-attr]
    if not torch.backends.mkldnn.is_available() or any(linear.weight.device.type != "cpu" for linear in linears):
        linears = []
    try:
        for linear in linears:
            linear.__dict__["forward"] = packed(linear)  # found before the method of the class
        yield
    finally:
        for linear in linears:
            linear.__dict__.pop("forward", None)


def packed(linear: nn.Linear) -> Callable[[Tensor], Tensor]:
    """The forward pass of a layer as it is now, with the GELU behind it as part of the product."""
    ops = torch.ops.mkldnn
    weight, bias = ops._reorder_linear_weight(linear.weight.detach()), linear.bias
    after, kind = ("gelu", linear.approximate) if isinstance(linear, LinearGELU) else ("none", "")

    def forward(x: Tensor) -> Tensor:
        return ops._linear_pointwise(x, weight, bias, after, [], kind)

    return forward
