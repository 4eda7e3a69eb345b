"""The layers of a frame autoencoder: they work on maps ``bt c h w``, and the temporal one alone mixes frames.

Maps are kept in channels-last memory, where convolutions are fastest and pixels are rows without a copy.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from noisereel.codecs.causal import Chunk
from noisereel.codecs.causal_resample import FoldedMean, UnfoldedCopy
from noisereel.types import Video

Maps = Float[Tensor, "bt c h w"]
NewMaps = Float[Tensor, "bt new_c new_h new_w"]
NewVideo = Float[Tensor, "b new_c t new_h new_w"]

FRAMES_AT_ONCE = 8


def norm(groups: int, width: int) -> nn.GroupNorm:
    """Group normalisation of each frame, with the epsilon of latent diffusion."""
    return nn.GroupNorm(groups, width, eps=1e-6)


class ResBlock(nn.Module):
    """Norm, SiLU, convolution, twice, on a residual branch."""

    def __init__(self, width: int, out_width: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(groups, width), nn.Conv2d(width, out_width, 3, padding=1)
        self.norm2, self.conv2 = norm(groups, out_width), nn.Conv2d(out_width, out_width, 3, padding=1)
        self.shortcut = nn.Conv2d(width, out_width, 1) if width != out_width else nn.Identity()

    def forward(self, x: Maps) -> NewMaps:
        h = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class PixelAttention(nn.Module):
    """Attention of the pixels of a frame to one another, with one head, on a residual branch."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm = norm(groups, width)
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.Linear(width, width)

    def forward(self, x: Maps) -> Maps:
        rows = rearrange(self.norm(x), "bt c h w -> bt 1 (h w) c")
        out = self.to_out(F.scaled_dot_product_attention(self.to_q(rows), self.to_k(rows), self.to_v(rows)))
        return x + rearrange(out, "bt 1 (h w) c -> bt c h w", h=x.shape[2])


class Down(nn.Module):
    """Halves height and width; like Stable Diffusion's it pads below and to the right alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Maps) -> NewMaps:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    """Doubles height and width by repeating pixels, then convolves."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Maps) -> NewMaps:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class TemporalBlock(nn.Module):
    """A residual block whose convolutions run over three frames: the identity at birth, and always for a lone frame."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(groups, width), nn.Conv2d(width, width, (3, 1), padding=(1, 0))
        self.norm2, self.conv2 = norm(groups, width), nn.Conv2d(width, width, (3, 1), padding=(1, 0))
        for parameter in self.conv2.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Maps, samples: int) -> Maps:
        if len(x) == samples:
            return x
        h = self._mix(self.conv1, F.silu(self.norm1(x)), samples)
        return x + self._mix(self.conv2, F.silu(self.norm2(h)), samples)

    def _mix(self, conv: nn.Conv2d, x: Maps, samples: int) -> Maps:
        """Over frames as the rows, and pixels as the columns, of one image: faster than a 3-D convolution."""
        clips = conv(rearrange(x, "(b t) c h w -> b c t (h w)", b=samples))
        return rearrange(clips, "b c t (h w) -> (b t) c h w", h=x.shape[2])


class Block(nn.Module):
    """A residual block, and what follows it where it does: mixing of frames, attention, a change of size.

    A ``shortcut`` without parameters leads round all of it.
    """

    def __init__(
        self,
        width: int,
        out_width: int,
        groups: int,
        *,
        temporal: bool = False,
        attention: bool = False,
        resize: nn.Module | None = None,
        shortcut: FoldedMean | UnfoldedCopy | None = None,
    ) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.res = ResBlock(width, out_width, groups)
        self.temporal = TemporalBlock(out_width, groups) if temporal else None
        self.attention = PixelAttention(out_width, groups) if attention else None
        self.resize = resize

    def forward(self, x: Maps, samples: int) -> NewMaps:
        y = self.res(x)
        if self.temporal is not None:
            y = self.temporal(y, samples)
        if self.attention is not None:
            y = self.attention(y)
        y = y if self.resize is None else self.resize(y)
        return y if self.shortcut is None else y + self.shortcut(x[:, :, None], Chunk(first=True))[:, :, 0]


class Tower(nn.Module):
    """A convolution, blocks, a norm, SiLU and a convolution: an encoder or a decoder of frames.

    Without gradients and where frames do not mix it works on a few at a time, so that memory does not grow with their number.
    """

    def __init__(self, channels: int, width: int, blocks: list[Block], last_width: int, out_channels: int, groups: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(blocks)
        self.norm_out = norm(groups, last_width)
        self.conv_out = nn.Conv2d(last_width, out_channels, 3, padding=1)
        self.mixes = any(block.temporal is not None for block in blocks)

    def forward(self, video: Video) -> NewVideo:
        if self.mixes or torch.is_grad_enabled():
            return self._code(video)
        return torch.cat([self._code(part) for part in video.split(FRAMES_AT_ONCE, dim=2)], dim=2)

    def _code(self, video: Video) -> NewVideo:
        maps = rearrange(video, "b c t h w -> (b t) c h w").to(self.conv_in.weight.dtype)
        x = self.conv_in(maps.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x, len(video))
        x = self.conv_out(F.silu(self.norm_out(x)))
        return rearrange(x, "(b t) c h w -> b c t h w", b=len(video)).to(video.dtype)
