"""A network that says what is missing from its hint."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from noisereel.nets.unet import UNet
from noisereel.types import Cond, Times, Video


class HintSkip(nn.Module):
    """The hint is added to what the network answers: a network that predicts x0 starts from the enlarged small video.

    What is in the hint already need not pass norms that forget a frame's contrast, and at birth the answer is the hint itself
    (Kim et al. 2016, "Accurate image super-resolution using very deep convolutional networks", section 3.1).
    """

    def __init__(self, net: UNet) -> None:
        super().__init__()
        if net.config["hint_channels"] != net.config["channels"]:
            given = net.config["hint_channels"], net.config["channels"]
            raise ValueError(f"a hint of {given[0]} channels cannot be added to an answer of {given[1]}: use as many of each")
        self.net = net

    def forward(self, x: Video, t: Times, cond: Cond) -> Video:
        assert cond.hint is not None
        return self.net(x, t, cond) + cond.hint.channels.to(x.dtype)

    @property
    def config(self) -> dict[str, Any]:
        return self.net.config

    @property
    def blocks(self) -> nn.ModuleList:
        return self.net.blocks

    @property
    def multiple(self) -> int:
        return self.net.multiple

    def temporal_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that mix frames."""
        return self.net.temporal_parameters()
