"""Halving and doubling of a video's time and space, the first frame always by itself; and shortcuts around them."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from einops import rearrange, reduce, repeat
from jaxtyping import Float
from torch import Tensor, nn

from noisereel.codecs.causal import CausalConv, Chunk, Maps, Memory, NewMaps, Past, convolved, in_time

Frames = Float[Tensor, "bt c h w"]
NewFrames = Float[Tensor, "bt new_c new_h new_w"]


class Down(nn.Module):
    """Halves height and width if ``step`` has ``hw``, then the frames after the first if it has ``t``.

    Space by a convolution; time by another (Wan Team 2025), or with ``pool`` by the mean of two frames (Yang et al. 2024).
    """

    def __init__(self, width: int, step: str, *, pool: bool = False) -> None:
        super().__init__()
        self.space = nn.Conv2d(width, width, 3, stride=2) if "hw" in step else None
        self.time = (_MeanOfTwo() if pool else _HalvingConv(width)) if "t" in step else None

    def forward(self, x: Maps, past: Past, chunk: Chunk) -> tuple[NewMaps, Past]:
        if self.space is not None:
            x = unstacked(convolved(F.pad(stacked(x), (0, 1, 0, 1)), self.space), len(x))
        return (x, None) if self.time is None else self.time(x, past, chunk)


class Up(nn.Module):
    """The way back of ``Down``: doubles the frames after the first, then height and width.

    Time by a convolution to twice the channels, or with ``pool`` by repeating frames; space by repeating pixels before a
    convolution.
    """

    def __init__(self, width: int, out_width: int, step: str, *, pool: bool = False) -> None:
        super().__init__()
        self.space = nn.Conv2d(width, out_width, 3, padding=1) if "hw" in step else None
        self.time = (_Twice() if pool else _TwoFrames(width)) if "t" in step else None
        self.pool = pool

    def forward(self, x: Maps, past: Past, chunk: Chunk) -> tuple[NewMaps, Past]:
        if self.pool:  # equal frames have equal convolutions: half the work
            x = self._in_space(x)
            return (x, None) if self.time is None else self.time(x, past, chunk)
        if self.time is not None:
            x, past = self.time(x, past, chunk)
        return self._in_space(x), past

    def _in_space(self, x: Maps) -> NewMaps:
        if self.space is None:
            return x
        doubled = F.interpolate(stacked(x), scale_factor=2.0, mode="nearest")
        return unstacked(convolved(doubled, self.space), len(x))


class _HalvingConv(nn.Conv3d):
    """One frame for two, from those two and the one before them."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, (3, 1, 1), stride=(2, 1, 1))

    def forward(self, x: Maps, past: Past, chunk: Chunk) -> tuple[NewMaps, Past]:  # type: ignore[override]
        kept = Memory(x[:, :, -1:])
        if not chunk.first:
            return convolved(in_time(past.take(), x), self), kept
        halved = [convolved(x, self)] if x.shape[2] > 1 else []
        return in_time(x[:, :, :1], *halved), kept


class _MeanOfTwo(nn.Module):
    def forward(self, x: Maps, past: Past, chunk: Chunk) -> tuple[NewMaps, Past]:
        alone, rest = (x[:, :, :1], x[:, :, 1:]) if chunk.first else (x[:, :, :0], x)
        return in_time(alone, reduce(rest, "b c (t two) h w -> b c t h w", "mean", two=2)), None


class _TwoFrames(CausalConv):
    """Two frames for one, from that one and the two before it; the first frame stays, and no other sees it."""

    def __init__(self, width: int) -> None:
        super().__init__(width, 2 * width, (3, 1, 1))

    def forward(self, x: Maps, past: Past, chunk: Chunk) -> tuple[NewMaps, Past]:  # type: ignore[override]
        alone, rest = (x[:, :, :1], x[:, :, 1:]) if chunk.first else (x[:, :, :0], x)
        if rest.shape[2] == 0:
            return x, past
        doubled, past = super().forward(rest, past, chunk)
        doubled = rearrange(doubled, "b (two c) t h w -> b c (t two) h w", two=2)
        return in_time(alone, doubled), past


class _Twice(nn.Module):
    def forward(self, x: Maps, past: Past, chunk: Chunk) -> tuple[NewMaps, Past]:
        twice = x.movedim(1, -1).repeat_interleave(2, dim=1).movedim(-1, 1)
        return twice[:, :, 1 if chunk.first else 0 :], None


def stacked(x: Maps) -> Frames:
    """The frames as a batch of images: a view in channels-last memory."""
    return x.transpose(1, 2).flatten(0, 1)


def unstacked(x: Frames, batch: int) -> Maps:
    return x.unflatten(0, (batch, -1)).transpose(1, 2)


@dataclass(frozen=True)
class FoldedMean:
    """A ``Down`` without parameters: squares and pairs of frames become channels, and channels are averaged to fit.

    Raises:
        ValueError: widths of which neither fits into the other.
    """

    width: int
    out_width: int
    step: str

    def __post_init__(self) -> None:
        folded = self.width * _folds(self.step)
        if folded % self.out_width:
            raise ValueError(f"no shortcut from {self.width} to {self.out_width} channels: use a divisor of {folded}")

    def __call__(self, x: Maps, chunk: Chunk) -> NewMaps:
        time, space = _factors(self.step)
        if chunk.first and time == 2:
            x = F.pad(x, (0, 0, 0, 0, 1, 0))  # the first frame's partner is black
        folded = rearrange(x, "b c (t i) (h p) (w q) -> b (c i p q) t h w", i=time, p=space, q=space)
        return reduce(folded, "b (c n) t h w -> b c t h w", "mean", c=self.out_width)


@dataclass(frozen=True)
class UnfoldedCopy:
    """An ``Up`` without parameters: channels are repeated to fit, and become squares and pairs of frames.

    Raises:
        ValueError: widths of which neither fits into the other.
    """

    width: int
    out_width: int
    step: str

    def __post_init__(self) -> None:
        folded = self.out_width * _folds(self.step)
        if folded % self.width:
            raise ValueError(f"no shortcut from {self.width} to {self.out_width} channels: use a multiple or a divisor")

    def __call__(self, x: Maps, chunk: Chunk) -> NewMaps:
        time, space = _factors(self.step)
        copies = self.out_width * _folds(self.step) // self.width
        x = repeat(x, "b c t h w -> b (c copies) t h w", copies=copies)
        x = rearrange(x, "b (c i p q) t h w -> b c (t i) (h p) (w q)", i=time, p=space, q=space)
        return x[:, :, time - 1 :] if chunk.first else x


def _factors(step: str) -> tuple[int, int]:
    """Of time, and of height and width."""
    return 2 if "t" in step else 1, 2 if "hw" in step else 1


def _folds(step: str) -> int:
    time, space = _factors(step)
    return time * space**2
