"""Which module first made a number that is not finite: asked after a step went wrong, by running it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn


def first_bad_module(parts: Mapping[str, nn.Module], replay: Callable[[], object]) -> str:
    """Say in a few words where a step first left the finite numbers.

    ``replay`` runs the step's forward and backward pass again from zero gradients, with the same batch and randomness.
    A module is named when its output is bad, else when it is the last in the forward pass, and so the first in the
    backward pass, whose own parameters have a bad gradient.
    """
    order: list[str] = []
    bad: list[str] = []
    modules = {f"{part}.{name}".rstrip("."): module for part, root in parts.items() for name, module in root.named_modules()}

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, given: Any, output: Any) -> None:
            order.append(name)
            if not all(map(_finite, _tensors(output))):
                bad.append(name)

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in modules.items()]
    try:
        with torch.compiler.set_stance("force_eager"):
            replay()
    finally:
        for handle in handles:
            handle.remove()
    if bad:
        return f"the first module with a bad output is {bad[0]}"
    for name in reversed(order):
        gradients = [parameter.grad for parameter in modules[name].parameters(recurse=False)]
        if not all(_finite(gradient) for gradient in gradients if gradient is not None):
            return f"every output is finite; the first module with a bad gradient is {name}"
    return "every output and gradient was finite when the step was run again"


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _tensors(output: Any) -> Iterator[Tensor]:
    """The tensors in what a module returned."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from _tensors(value)
    elif is_dataclass(output):
        for field in fields(output):
            yield from _tensors(getattr(output, field.name))
