"""The autoencoder of single frames: Stable Diffusion's, with frames mixed in the decoder where wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from noisereel.codecs.causal_resample import FoldedMean, UnfoldedCopy
from noisereel.codecs.frame_layers import Block, Down, TemporalBlock, Tower, Up
from noisereel.types import Latent, Video

LOGVAR_RANGE = (-30.0, 20.0)
LOGVAR_AT_BIRTH = -6.0  # in noise as large as the latents themselves where things are is not learned


class FrameVAE(nn.Module):
    """A variational autoencoder that encodes every frame by itself (Rombach et al. 2022, appendix G).

    With ``temporal`` the decoder mixes frames after every residual block (Blattmann et al. 2023, section 3.1.1); at birth,
    and for a video of one frame always, that is the identity, so that the decoder of images is kept.

    Args (keywords only; ``FrameVAE(**vae.config)`` builds the same network):
        channels: of the latents.
        width: channels at full size; each level has its multiple of it in ``multipliers`` and half the size of the last.
        depth: residual blocks of a level of the encoder; the decoder has one more.
        norm_groups: groups of the norms, which see one frame at a time.
        temporal: whether the decoder mixes frames.
        patch: squares of ``patch`` x ``patch`` pixels become channels before the first convolution.
        shortcuts: whether there are some round every change of size, by which it learns much faster (Chen et al. 2024,
            DC-AE; Wan Team 2025).

    Raises:
        ValueError: ``norm_groups`` that do not divide every level; ``posterior`` of a video whose height or width the stride
            does not divide.
    """

    lead = 0  # every frame has a latent frame of its own

    mean: Tensor  # of each latent channel before scaling, and its standard deviation
    std: Tensor

    def __init__(
        self,
        *,
        channels: int = 4,
        width: int = 128,
        multipliers: Sequence[int] = (1, 2, 4, 4),
        depth: int = 2,
        norm_groups: int = 32,
        temporal: bool = False,
        patch: int = 1,
        shortcuts: bool = False,
    ) -> None:
        super().__init__()
        widths = [width * multiplier for multiplier in multipliers]
        for level in widths:
            if level % norm_groups:
                raise ValueError(f"norm_groups={norm_groups} does not divide a level's width of {level}")
        self.config: dict[str, Any] = dict(channels=channels, width=width, multipliers=tuple(multipliers), depth=depth)
        self.config |= dict(norm_groups=norm_groups, temporal=temporal, patch=patch, shortcuts=shortcuts)
        self.channels, self.patch = channels, patch
        colours = 3 * patch**2
        self.encoder = Tower(
            colours, width, _down(widths, depth, norm_groups, shortcuts), widths[-1], 2 * channels, norm_groups
        )
        self.quant = nn.Conv2d(2 * channels, 2 * channels, 1)
        assert self.quant.bias is not None
        with torch.no_grad():
            self.quant.bias[channels:] += LOGVAR_AT_BIRTH
        self.post_quant = nn.Conv2d(channels, channels, 1)
        blocks = _up(widths, depth, norm_groups, temporal, shortcuts)
        self.decoder = Tower(channels, widths[-1], blocks, width, colours, norm_groups)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    @property
    def stride(self) -> tuple[int, int, int]:
        space = self.patch * 2 ** (len(self.config["multipliers"]) - 1)
        return (1, space, space)

    def encode(self, video: Video) -> Latent:
        """The most likely latents, scaled to about unit variance."""
        mean, _ = self.posterior(video)
        return (mean - _channels(self.mean)) / _channels(self.std)

    def decode(self, latent: Latent) -> Video:
        """Pixels of scaled latents; they may leave [-1, 1] a little."""
        return self.decode_raw(latent * _channels(self.std) + _channels(self.mean))

    def posterior(self, video: Video) -> tuple[Latent, Latent]:
        """Mean and log-variance of the latents, unscaled."""
        height, width = video.shape[-2:]
        space = self.stride[1]
        if height % space or width % space:
            raise ValueError(f"frames are {height}x{width}; height and width must be multiples of {space}")
        folded = rearrange(video, "b c t (h p) (w q) -> b (c p q) t h w", p=self.patch, q=self.patch)
        mean, logvar = _each_pixel(self.quant, self.encoder(folded)).chunk(2, dim=1)
        return mean, logvar.clamp(*LOGVAR_RANGE)

    def decode_raw(self, latent: Latent) -> Video:
        """Pixels of latents as ``posterior`` gives them."""
        folded = self.decoder(_each_pixel(self.post_quant, latent))
        return rearrange(folded, "b (c p q) t h w -> b c t (h p) (w q)", p=self.patch, q=self.patch)

    def temporal_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that mix frames: what the temporal decoder's training moves."""
        for module in self.modules():
            if isinstance(module, TemporalBlock):
                yield from module.parameters()

    def image_state(self) -> dict[str, Tensor]:
        """The weights and the scaling of the same autoencoder without temporal parts."""
        temporal = {id(parameter) for parameter in self.temporal_parameters()}
        return {name: value for name, value in self.state_dict(keep_vars=True).items() if id(value) not in temporal}

    def load_image(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights and the scaling of the same autoencoder without temporal parts, which keep their own.

        Raises:
            ValueError: ``state`` is not that of the same autoencoder without temporal parts.
        """
        own = self.image_state()
        wrong = sorted(own.keys() ^ state.keys()) or sorted(name for name in own if own[name].shape != state[name].shape)
        if wrong:
            raise ValueError(f"these are not the weights of this autoencoder without its temporal parts: see {wrong[0]}")
        self.load_state_dict(state, strict=False)


def _down(widths: list[int], depth: int, groups: int, shortcuts: bool) -> list[Block]:
    """Each level's blocks, the last of which halves the size, and the two of the middle."""
    blocks, width = [], widths[0]
    for level, out_width in enumerate(widths):
        for j in range(depth):
            ends = j == depth - 1 and level < len(widths) - 1
            around = FoldedMean(width, out_width, "hw") if ends and shortcuts else None
            blocks.append(Block(width, out_width, groups, resize=Down(out_width) if ends else None, shortcut=around))
            width = out_width
    return [*blocks, Block(width, width, groups, attention=True), Block(width, width, groups)]


def _up(widths: list[int], depth: int, groups: int, temporal: bool, shortcuts: bool) -> list[Block]:
    """The two of the middle, and each level's blocks, the last of which doubles the size."""
    width = widths[-1]
    blocks = [Block(width, width, groups, temporal=temporal, attention=here) for here in (True, False)]
    for level, out_width in reversed(list(enumerate(widths))):
        for j in range(depth + 1):
            ends = j == depth and level > 0
            around = UnfoldedCopy(width, out_width, "hw") if ends and shortcuts else None
            resize = Up(out_width) if ends else None
            blocks.append(Block(width, out_width, groups, temporal=temporal, resize=resize, shortcut=around))
            width = out_width
    return blocks


def _channels(values: Tensor) -> Tensor:
    return rearrange(values, "c -> c 1 1 1")


def _each_pixel(conv: nn.Conv2d, latent: Latent) -> Latent:
    """A 1x1 convolution of every frame."""
    maps = conv(rearrange(latent, "b c t h w -> (b t) c h w").to(conv.weight.dtype))
    return rearrange(maps, "(b t) c h w -> b c t h w", b=len(latent)).to(latent.dtype)
