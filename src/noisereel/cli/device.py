"""Which device to compute on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def pick(name: str | None) -> torch.device:
    """The device of that name, or the best there is.

    Raises:
        ValueError: this machine, or this build of PyTorch, has no such device.
    """
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        there = ", ".join(["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))])
        raise ValueError(f"there is no device {name!r} here; there is {there}") from error
