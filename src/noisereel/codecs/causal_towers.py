"""The two halves of a causal autoencoder: levels of blocks at one resolution each, and a middle at the lowest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from noisereel.codecs.causal import CausalConv, Chain, Chunk, Maps, NewMaps, Past
from noisereel.codecs.causal_blocks import FrameAttention, MakeNorm, ResBlock
from noisereel.codecs.causal_resample import Down, FoldedMean, UnfoldedCopy, Up

# Of time and space by convolutions, that upwards giving half the width; the same with shortcuts around, the width kept; or of
# time by means and copies.
Resample = Literal["conv", "residual", "pool"]
Pad = Literal["zeros", "first"]


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a half is built, whatever its widths."""

    blocks: int  # of a level
    attention: bool
    resample: Resample
    pad: Pad
    make_norm: MakeNorm

    def conv(self, width: int, out_width: int) -> CausalConv:
        return CausalConv(width, out_width, pad=self.pad)

    def level(self, width: int, out_width: int, blocks: int) -> list[nn.Module]:
        return [ResBlock(width if i == 0 else out_width, out_width, self.make_norm, self.pad) for i in range(blocks)]

    def middle(self, width: int) -> Chain:
        between = [FrameAttention(width, self.make_norm)] if self.attention else []
        return Chain([*self.level(width, width, 1), *between, *self.level(width, width, 1)])


class Tower(nn.Module):
    """A convolution, a body whose parts run in their order, a norm, SiLU and a convolution."""

    def __init__(self, conv_in: CausalConv, body: dict[str, Chain], norm_out: nn.Module, conv_out: CausalConv) -> None:
        super().__init__()
        self.conv_in = conv_in
        self.body = tuple(body)
        for name, part in body.items():
            self.add_module(name, part)
        self.norm_out, self.conv_out = norm_out, conv_out

    def forward(self, x: Maps, past: Past, chunk: Chunk) -> tuple[NewMaps, Past]:
        layers = [self.conv_in, *flattened(self.get_submodule(name) for name in self.body)]
        *olds, last = [None] * (len(layers) + 1) if past is None else past
        pasts = []
        for layer, old in zip(layers, olds, strict=True):
            x, new = layer(x, old, chunk)
            pasts.append(new)
        x, last = self.conv_out(x, last, chunk, self.norm_out)
        return x, (*pasts, last)


def flattened(layers: Iterable[nn.Module]) -> Iterator[nn.Module]:
    """The layers of all chains in one row: the call of a level would hold its input until the level is done."""
    for layer in layers:
        if isinstance(layer, Chain) and layer.shortcut is None:
            yield from flattened(layer)
        else:
            yield layer


def encoder(channels: int, out_channels: int, widths: Sequence[int], halve: Sequence[str], style: Style) -> Tower:
    """Every level but the last ends in ``Down``."""
    levels, width = [], widths[0]
    for out_width, step in zip(widths, [*halve, ""], strict=True):
        level = style.level(width, out_width, style.blocks)
        level += [Down(out_width, step, pool=style.resample == "pool")] if step else []
        around = style.resample == "residual" and (step or width == out_width)
        levels.append(Chain(level, FoldedMean(width, out_width, step) if around else None))
        width = out_width
    body = dict(levels=Chain(levels), middle=style.middle(width))
    return Tower(style.conv(channels, widths[0]), body, style.make_norm(width), style.conv(width, out_channels))


def decoder(channels: int, out_channels: int, widths: Sequence[int], double: Sequence[str], style: Style) -> Tower:
    """Every level but the last ends in ``Up``, which by convolutions alone halves the width (see ``Resample``)."""
    levels, width = [], widths[0]
    for level_width, step in zip(widths, [*double, ""], strict=True):
        level = style.level(width, level_width, style.blocks)
        around = style.resample == "residual" and step
        shortcut = UnfoldedCopy(width, level_width, step) if around else None
        width = level_width // 2 if "hw" in step and style.resample == "conv" else level_width
        level += [Up(level_width, width, step, pool=style.resample == "pool")] if step else []
        levels.append(Chain(level, shortcut))
    body = dict(middle=style.middle(widths[0]), levels=Chain(levels))
    return Tower(style.conv(channels, widths[0]), body, style.make_norm(width), style.conv(width, out_channels))
