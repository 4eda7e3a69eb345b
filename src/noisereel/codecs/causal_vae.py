"""A causal 3-D variational autoencoder: 4k + 1 frames to k + 1 latent frames, an image being a video of one frame."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from noisereel.codecs.causal import CausalConv, Chain, Chunk, Maps, NewMaps, Past
from noisereel.codecs.causal_blocks import Down, FrameAttention, ResBlock, Up
from noisereel.codecs.pixel_norm import PixelNorm
from noisereel.types import Latent, Video

Moments = Float[Tensor, "b z new_t new_h new_w"]


class Encoder(nn.Module):
    """Levels of residual blocks, each but the last ending in ``Down``; then a middle at the lowest resolution."""

    def __init__(
        self, channels: int, out_channels: int, widths: Sequence[int], halve: Sequence[str], blocks: int, attention: bool
    ) -> None:
        super().__init__()
        self.conv_in = CausalConv(channels, widths[0])
        self.levels = Chain([])
        width = widths[0]
        for out_width, step in zip(widths, [*halve, ""], strict=True):
            self.levels.append(Chain(_blocks(width, out_width, blocks) + ([Down(out_width, step)] if step else [])))
            width = out_width
        self.middle = Chain(_middle(width, attention))
        self.norm_out = PixelNorm(width)
        self.conv_out = CausalConv(width, out_channels)

    def forward(self, x: Maps, past: Past, chunk: Chunk) -> tuple[NewMaps, Past]:
        past_in, past_levels, past_middle, past_out = past or (None,) * 4
        x, past_in = self.conv_in(x, past_in, chunk)
        x, past_levels = self.levels(x, past_levels, chunk)
        x, past_middle = self.middle(x, past_middle, chunk)
        x, past_out = self.conv_out(self.norm_out(x, chunk), past_out, chunk)
        return x, (past_in, past_levels, past_middle, past_out)


class Decoder(nn.Module):
    """A middle at the lowest resolution, then levels of residual blocks, each but the last ending in ``Up``."""

    def __init__(
        self, channels: int, out_channels: int, widths: Sequence[int], halve: Sequence[str], blocks: int, attention: bool
    ) -> None:
        super().__init__()
        width = widths[-1]
        self.conv_in = CausalConv(channels, width)
        self.middle = Chain(_middle(width, attention))
        self.levels = Chain([])
        for out_width, step in zip(reversed(widths), [*reversed(halve), ""], strict=True):
            level = _blocks(width, out_width, blocks + 1)
            width = out_width // 2 if "hw" in step else out_width
            self.levels.append(Chain(level + ([Up(out_width, width, step)] if step else [])))
        self.norm_out = PixelNorm(width)
        self.conv_out = CausalConv(width, out_channels)

    def forward(self, x: Maps, past: Past, chunk: Chunk) -> tuple[NewMaps, Past]:
        past_in, past_middle, past_levels, past_out = past or (None,) * 4
        x, past_in = self.conv_in(x, past_in, chunk)
        x, past_middle = self.middle(x, past_middle, chunk)
        x, past_levels = self.levels(x, past_levels, chunk)
        x, past_out = self.conv_out(self.norm_out(x, chunk), past_out, chunk)
        return x, (past_in, past_middle, past_levels, past_out)


def _blocks(width: int, out_width: int, count: int) -> list[nn.Module]:
    return [ResBlock(width if i == 0 else out_width, out_width) for i in range(count)]


def _middle(width: int, attention: bool) -> list[nn.Module]:
    between: list[nn.Module] = [FrameAttention(width)] if attention else []
    return [ResBlock(width, width), *between, ResBlock(width, width)]


class CausalVAE(nn.Module):
    """Video to latents and back, strictly causal in time and never mixing clips.

    ``mean`` and ``std`` are those of each latent channel; ``encode`` and ``decode`` scale by them, ``posterior`` and
    ``decode_raw`` do not.

    Args:
        widths: of the levels, from pixels to latents.
        halve: what is halved between one level and the next: ``"hw"``, ``"t"`` or ``"thw"``.
        patch: squares of ``patch`` x ``patch`` pixels become channels before the first convolution (Wan 2.2).
        blocks: residual blocks of an encoder level; a decoder level has one more.
        attention: attention among the pixels of each frame in the middle.
    """

    lead = 1  # the first frame has a latent frame of its own

    def __init__(
        self,
        *,
        widths: Sequence[int] = (96, 192, 384, 384),
        halve: Sequence[str] = ("hw", "thw", "thw"),
        latent_channels: int = 16,
        patch: int = 1,
        blocks: int = 2,
        attention: bool = True,
    ) -> None:
        super().__init__()
        self.channels, self.patch = latent_channels, patch
        space = patch * 2 ** sum("hw" in step for step in halve)
        self.stride = (2 ** sum("t" in step for step in halve), space, space)
        colours = 3 * patch**2
        self.encoder = Encoder(colours, 2 * latent_channels, widths, halve, blocks, attention)
        self.decoder = Decoder(latent_channels, colours, widths, halve, blocks, attention)
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.zeros(latent_channels))
        self.register_buffer("std", torch.ones(latent_channels))

    def posterior(self, video: Video) -> tuple[Moments, Moments]:
        """The mean and the logarithm of the variance of the latents, as the network gives them, not scaled."""
        x = rearrange(video, "b c t (h p) (w q) -> b (c q p) t h w", p=self.patch, q=self.patch)
        moments, _ = self.encoder(x, None, Chunk(first=True))
        mean, logvar = moments.chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)

    def decode_raw(self, latent: Latent) -> Video:
        """The video of latents that are not scaled."""
        x, _ = self.decoder(latent, None, Chunk(first=True, latent=latent))
        return rearrange(x, "b (c q p) t h w -> b c t (h p) (w q)", p=self.patch, q=self.patch)

    def encode(self, video: Video) -> Latent:
        """The most likely latents, of about unit variance."""
        return (self.posterior(video)[0] - _column(self.mean)) / _column(self.std)

    def decode(self, latent: Latent) -> Video:
        return self.decode_raw(latent * _column(self.std) + _column(self.mean))


def _column(x: Tensor) -> Tensor:
    return rearrange(x, "c -> c 1 1 1")
