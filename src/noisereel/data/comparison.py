"""Videos of several sizes and lengths side by side: what each stage of a cascade made."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from PIL import Image, ImageDraw
from torch import Tensor, nn

GAP = 4  # white pixels between two videos
LABEL = 16  # pixels above each


def side_by_side(videos: Mapping[str, Float[Tensor, "3 _ _ _"]]) -> Float[Tensor, "3 t h w"]:
    """Each video below its name and shape, its pixels and frames repeated to the size and number of the last one's."""
    shape = list(videos.values())[-1].shape[1:]
    panels = [
        _labelled(f"{name} {'x'.join(map(str, video.shape[1:]))}", _repeated(video, shape)) for name, video in videos.items()
    ]
    gap = panels[0].new_ones(*panels[0].shape[:3], GAP)
    return torch.cat([part for panel in panels for part in (panel, gap)][:-1], dim=3)


def _repeated(video: Float[Tensor, "3 _ _ _"], shape: torch.Size) -> Float[Tensor, "3 _ _ _"]:
    return nn.functional.interpolate(video[None].float(), tuple(shape), mode="nearest")[0]


def _labelled(text: str, video: Float[Tensor, "3 t h w"]) -> Float[Tensor, "3 t _ _"]:
    """The video at least as wide as its label, which is written above it."""
    width = max(video.shape[3], int(ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength(text)) + 2)
    label = Image.new("RGB", (width, LABEL), "white")
    ImageDraw.Draw(label).text((1, 2), text, fill="black")
    above = rearrange(torch.from_numpy(np.array(label)).float() / 127.5 - 1, "h w c -> c 1 h w")
    padded = nn.functional.pad(video, (0, width - video.shape[3]), value=1.0)
    return torch.cat([above.expand(-1, video.shape[1], -1, -1), padded], dim=2)
