"""Layers that never look ahead in time, and that may be fed a video piece by piece.

Every layer here is called ``layer(x, past, chunk) -> (y, past)``: what it remembers of earlier frames is passed in, used up
and returned anew, never stored, so a video can be worked on in chunks of frames with the result of the whole. ``past`` is
None before the first chunk. Feature maps are ``b c t h w`` in channels-last memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import repeat
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from noisereel.types import Latent

Maps = Float[Tensor, "b c t h w"]
NewMaps = Float[Tensor, "b new_c new_t new_h new_w"]
Longer = Float[Tensor, "b c longer_t h w"]
Piece = Float[Tensor, "b c _ h w"]


class Memory:
    """Frames that a layer wants to see again with the next chunk.

    They can be taken once, and are freed while that chunk is still being worked on: there is one past at a time, not two.
    """

    def __init__(self, frames: Maps) -> None:
        # A copy, lest they hold all that they are a part of; a gradient holds that anyhow.
        self._frames: list[Maps] = [frames if torch.is_grad_enabled() else frames.clone()]

    def take(self) -> Maps:
        """The frames.

        Raises:
            ValueError: they were taken before.
        """
        if not self._frames:
            raise ValueError("this past was used before: every chunk takes the one that the chunk before it returned")
        return self._frames.pop()


Past: TypeAlias = Any  # a Memory, a tuple of what its parts remember, or None; nested as the layers are


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """What every layer sees besides its input: which part of a video this is."""

    first: bool  # it starts with the first frame, which is coded by itself
    latent: Latent | None = None  # what is being decoded, for norms that look at it


class Chain(nn.ModuleList):
    """Causal layers one after the other, and a ``shortcut`` around them if there is one."""

    def __init__(self, layers: Iterable[nn.Module], shortcut: Callable[[Maps, Chunk], NewMaps] | None = None) -> None:
        super().__init__(layers)
        self.shortcut = shortcut

    def forward(self, x: Maps, past: Past, chunk: Chunk) -> tuple[NewMaps, Past]:
        y, pasts = x, []
        for layer, old in zip(self, repeat(None) if past is None else past, strict=False):
            y, new = layer(y, old, chunk)
            pasts.append(new)
        return (y if self.shortcut is None else y + self.shortcut(x, chunk)), tuple(pasts)


class CausalConv(nn.Conv3d):
    """A convolution that sees ``kernel - 1`` frames back and none ahead, and the norm before it if there is one.

    Before the first frame there are zeros, or with ``pad="first"`` copies of it (Yang et al. 2024).
    """

    def __init__(self, width: int, out_width: int, kernel: tuple[int, int, int] = (3, 3, 3), pad: str = "zeros") -> None:
        _, height, width_ = kernel
        super().__init__(width, out_width, kernel, padding=(0, height // 2, width_ // 2))
        self.memory = kernel[0] - 1
        self.pad = pad

    def forward(  # type: ignore[override]
        self, x: Maps, past: Past, chunk: Chunk, norm: nn.Module | None = None
    ) -> tuple[NewMaps, Past]:
        image = past is None and self.pad == "zeros" and x.shape[2] == 1
        seen = self._seen(x, past, chunk, norm) if torch.is_grad_enabled() else self._filled(x, past, chunk, norm)
        kept = Memory(seen[:, :, -self.memory :])
        if image:  # most of the kernel would meet zeros
            return convolved(seen[:, :, -1:], self, self.weight[:, :, -1:]), kept
        return convolved(seen, self), kept

    def _seen(self, x: Maps, past: Memory | None, chunk: Chunk, norm: nn.Module | None) -> Longer:
        """What the convolution runs over: the past, or what stands for it, and the input after the norm."""
        y = x if norm is None else norm(x, chunk)
        if past is not None:
            return in_time(past.take(), y)
        before = y[:, :, :1].expand(-1, -1, self.memory, -1, -1)
        return in_time(before if self.pad == "first" else torch.zeros_like(before), y)

    def _filled(self, x: Maps, past: Memory | None, chunk: Chunk, norm: nn.Module | None) -> Longer:
        """The same where no gradient is wanted: the norm writes to where it is needed, which saves a copy of everything."""
        b, c, t, h, w = x.shape
        seen = x.new_empty(b, self.memory + t, h, w, c).movedim(-1, 1)
        before, y = seen[:, :, : self.memory], seen[:, :, self.memory :]
        if norm is None:
            y.copy_(x)
        else:
            norm(x, chunk, out=y)
        if past is not None:
            before.copy_(past.take())
        elif self.pad == "first":
            before.copy_(y[:, :, :1].expand_as(before))
        else:
            before.zero_()
        return seen


def in_time(*parts: Piece) -> Longer:
    """One after the other, in channels-last memory, whatever that of the parts."""
    return torch.cat([part.movedim(1, -1) for part in parts], dim=1).movedim(-1, 1)


def convolved(x: Float[Tensor, "b c *size"], conv: nn.Conv2d | nn.Conv3d, kernel: Tensor | None = None) -> Tensor:
    """The convolution of a module, with its own kernel or a part of it, by the fastest path.

    PyTorch gives fp32 convolutions of one video, or one frame, on one CPU core to routines 2 to 8 times slower than oneDNN's;
    and the two round differently, whereas a chunk of one frame must give what the whole gives.
    """
    kernel = conv.weight if kernel is None else kernel
    x = channels_last(x)
    padding = [int(size) for size in conv.padding]
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if plain and torch.backends.mkldnn.is_available():
        return torch.mkldnn_convolution(x, kernel, conv.bias, padding, conv.stride, conv.dilation, conv.groups)
    return (F.conv2d if x.ndim == 4 else F.conv3d)(x, kernel, conv.bias, conv.stride, padding)


def channels_last(x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b c *size"]:
    """In channels-last memory, also to those who look at the strides of axes of size 1; a copy only where needed."""
    places = x.movedim(1, -1)
    return places.flatten().view(places.shape).movedim(-1, 1)


class Pointwise(nn.Conv3d):
    """A linear map of the channels of each pixel."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__(width, out_width, 1)

    def forward(self, x: Maps) -> NewMaps:
        return convolved(x, self)
