"""Layers that never look ahead in time, and that may be fed a video piece by piece.

Every layer here is called ``layer(x, past, chunk) -> (y, past)``: what it remembers of earlier frames is passed in and
returned, never stored, so a video can be worked on in chunks of frames with the result of the whole. ``past`` is None
before the first chunk. Feature maps are ``b c t h w`` in channels-last memory.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import repeat
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from noisereel.types import Video

Maps = Float[Tensor, "b c t h w"]
NewMaps = Float[Tensor, "b new_c new_t new_h new_w"]
Past: TypeAlias = "Tensor | tuple[Any, ...] | None"  # nested as the layers are


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """What every layer sees besides its input: which part of a video this is."""

    first: bool  # it starts with the first frame, which is coded by itself
    latent: Video | None = None  # what is being decoded, for norms that look at it


class Chain(nn.ModuleList):
    """Causal layers one after the other."""

    def __init__(self, layers: Iterable[nn.Module]) -> None:
        super().__init__(layers)

    def forward(self, x: Maps, past: Past, chunk: Chunk) -> tuple[NewMaps, Past]:
        pasts = []
        for layer, old in zip(self, repeat(None) if past is None else past, strict=False):
            x, new = layer(x, old, chunk)
            pasts.append(new)
        return x, tuple(pasts)


class CausalConv(nn.Conv3d):
    """A convolution that sees ``kernel - 1`` frames back and none ahead; before the first frame there are zeros.

    ``pad="first"``: before the first frame there are copies of it (Yang et al. 2024).
    """

    def __init__(self, width: int, out_width: int, kernel: tuple[int, int, int] = (3, 3, 3), pad: str = "zeros") -> None:
        _, height, width_ = kernel
        super().__init__(width, out_width, kernel, padding=(0, height // 2, width_ // 2))
        self.memory = kernel[0] - 1
        self.pad = pad

    def forward(self, x: Maps, past: Past, chunk: Chunk) -> tuple[NewMaps, Past]:  # type: ignore[override]
        if self.memory == 0:
            return conv3d(x, self), None
        if past is None:
            past = x[:, :, :1].expand(-1, -1, self.memory, -1, -1)
            past = past if self.pad == "first" else torch.zeros_like(past)
        x = torch.cat([past, x], dim=2)
        return conv3d(x, self), x[:, :, -self.memory :].clone()


def conv3d(x: Maps, conv: nn.Conv3d) -> NewMaps:
    """The convolution of a module, by the fastest path.

    PyTorch gives an fp32 convolution of one video on one CPU core to a kernel 2 to 8 times slower than oneDNN's.
    """
    x = x.contiguous(memory_format=torch.channels_last_3d)
    slow = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if slow and torch.backends.mkldnn.is_available():
        padding = [int(size) for size in conv.padding]
        return torch.mkldnn_convolution(x, conv.weight, conv.bias, padding, conv.stride, conv.dilation, conv.groups)
    return F.conv3d(x, conv.weight, conv.bias, conv.stride, conv.padding)


class FrameConv(nn.Conv2d):
    """A convolution of each frame by itself."""

    def forward(self, x: Maps) -> NewMaps:  # type: ignore[override]
        frames = x.transpose(1, 2).flatten(0, 1)  # a view in channels-last memory
        return super().forward(frames).unflatten(0, (len(x), -1)).transpose(1, 2)
