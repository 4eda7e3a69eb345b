"""How different two videos look: the distance of what a network sees in their frames."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from noisereel.types import Video

Images = Float[Tensor, "n 3 h w"]
Maps = Float[Tensor, "n c _ _"]

SMALL = ((16, 16), (32, 32), (64, 64), (128, 128))
EPS = 1e-8  # beside the squared length of a pixel's features


class FeatureNet(nn.Module):
    """Stages of 3x3 convolutions like VGG's, each at half the size of the one before; what each ends with is compared.

    ``stages`` are the widths of the convolutions. ``shift`` and ``scale`` normalise colours; ``weights`` are those of the
    compared channels, stage after stage.

    Raises:
        ValueError: images too small to be halved so often.
    """

    shift: Tensor
    scale: Tensor
    weights: Tensor

    def __init__(self, *, stages: Sequence[Sequence[int]] = SMALL) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(stages=tuple(map(tuple, stages)))
        self.widths = [stage[-1] for stage in stages]
        self.stages = nn.ModuleList()
        for before, stage in zip([3, *self.widths], stages, strict=False):
            convs = [nn.Conv2d(*pair, 3, padding=1) for pair in pairwise([before, *stage])]
            for conv in convs:  # there is no norm that would mend another beginning
                nn.init.kaiming_normal_(conv.weight)
            layers = [layer for conv in convs for layer in (conv, nn.ReLU(inplace=True))]
            self.stages.append(nn.Sequential(*([nn.MaxPool2d(2)] if self.stages else []), *layers))
        self.register_buffer("shift", torch.zeros(3))
        self.register_buffer("scale", torch.ones(3))
        self.register_buffer("weights", torch.ones(sum(self.widths)))

    def forward(self, images: Images) -> list[Maps]:
        """What is seen in images in [-1, 1], at each depth."""
        (height, width), halved = images.shape[-2:], len(self.stages) - 1
        if min(height, width) < 2**halved:
            raise ValueError(f"images of {height}x{width} cannot be halved {halved} times: use {2**halved} pixels or more")
        x = (images - rearrange(self.shift, "c -> c 1 1")) / rearrange(self.scale, "c -> c 1 1")
        x = x.contiguous(memory_format=torch.channels_last)
        seen: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            seen.append(x)
        return seen

    def distance(self, video: Video, truth: Video) -> Float[Tensor, "b"]:
        """The mean over frames of what LPIPS is for an image (Zhang et al. 2018, eq. 1); ``truth`` gets no gradient."""
        with torch.no_grad():
            true = self(_frames(truth))
        seen = self(_frames(video))
        terms = [
            (weight * (_unit(a) - _unit(b)).square()).sum(-1).mean((1, 2))
            for a, b, weight in zip(seen, true, self.weights.split(self.widths), strict=True)
        ]
        return rearrange(sum(terms), "(b t) -> b t", b=len(video)).mean(1)


def _frames(video: Video) -> Float[Tensor, "n c h w"]:
    return rearrange(video, "b c t h w -> (b t) c h w")


def _unit(maps: Maps) -> Float[Tensor, "n h w c"]:
    """The features of each pixel at length 1."""
    rows = rearrange(maps.float(), "n c h w -> n h w c")
    return rows * (rows.square().sum(-1, keepdim=True) + EPS).rsqrt()
