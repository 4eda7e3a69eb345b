"""A plain ground made transparent, with soft edges and without a rim of its colour: what a sprite needs to stand elsewhere."""

from __future__ import annotations

from itertools import product
from math import hypot

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

Clip = Float[Tensor, "3 t h w"]
Cutout = Float[Tensor, "4 t h w"]  # red, green, blue and alpha in [-1, 1], colours not premultiplied
Mask = Bool[Tensor, "t h w"]

_LEAST = 8 / 127.5  # how far from the ground's colour a pixel is ground in any case: rounding does as much
_MOST = 64 / 127.5  # a border that strays further than this is no plain ground
_WIDTH = 3  # pixels: how far the ground shines into the figure, at most
_REACH = 4  # pixels: how far away the colour is looked for that an edge fades from
_OFF = 0.25  # how far beside the line between two colours their mixture may lie, as a share of its length
_WHOLE = 0.9  # a share from which on a pixel is all figure, but for noise


def transparent(video: Clip) -> Cutout:
    """The video with its plain ground made transparent.

    Whatever has the ground's colour is ground, holes in a figure included: they open and close as it moves, and would flicker
    otherwise. A pixel at the edge whose colour lies between the ground's and the figure's is a mixture of the two: it gets the
    figure's colour, and its share as alpha, so that composited on the ground it is what it was.

    Raises:
        ValueError: the ground is not plain.
    """
    ground, near = plain_ground(video)
    apart = video - ground[:, None, None, None]
    distance = apart.norm(dim=0)
    # A speck of noise, and a stain that a model leaves on the ground, have nothing solid beside them.
    figure = (distance > near) & _grown(distance > near + max(near, 2 * _LEAST), 1)
    alpha = torch.where(figure, _cover(apart, figure, near), 0)
    colour = ground[:, None, None, None] + apart / alpha.clamp(min=1e-3)
    return torch.cat([_bled(colour.clamp(-1, 1), alpha), 2 * alpha[None] - 1])


def plain_ground(video: Clip) -> tuple[Float[Tensor, "3"], float]:
    """The colour of the ground, read from the border of all frames, and how far from it a pixel is still ground.

    Raises:
        ValueError: the border holds several colours.
    """
    rows, columns = video[:, :, [0, -1], :], video[:, :, :, [0, -1]]
    border = torch.cat([rows.flatten(1), columns.flatten(1)], dim=1)
    ground = border.median(dim=1).values
    # The figure may cover a quarter of the border. Three times this quantile is 6 sigma of Gaussian noise.
    near = 3 * float((border - ground[:, None]).norm(dim=0).quantile(0.75))
    if near > _MOST:
        raise ValueError("the ground is not plain and cannot be made transparent: ask for a plain one, 'on a white background'")
    return ground, max(near, _LEAST)


def _cover(apart: Clip, figure: Mask, near: float) -> Float[Tensor, "t h w"]:
    """The share of the figure in each of its pixels: 1 but at the edge."""
    cover = torch.ones_like(apart[0])
    outside = ~figure
    for _ in range(_WIDTH):  # inwards from the ground, for as long as it shines through
        rim = figure & ~outside & _grown(outside, 1)
        cover[rim] = _share(apart, rim, figure, outside, near)
        outside = outside | (rim & (cover < _WHOLE))
    return cover


def _share(apart: Clip, rim: Mask, figure: Mask, outside: Mask, near: float) -> Float[Tensor, "n"]:
    """For each pixel of the rim, the least share of a colour behind it that, mixed with the ground, explains it.

    The colour is looked for away from the ground and inside the rim, so that neither an outline nor a part that stands out is
    a mixture of the ground and the part beside it; where the figure is too thin to have an inside, in the rim too.
    """
    t, h, w = rim.nonzero(as_tuple=True)
    mixed = apart[:, t, h, w]
    down, right = (part[t, h, w] for part in _towards(outside))
    inside = figure & ~outside & ~rim
    around = functional.pad(torch.cat([apart, inside[None], figure[None]]), (_REACH,) * 4)
    least = torch.full((2, len(t)), torch.inf)
    has_inside = torch.zeros(len(t), dtype=torch.bool)
    for i, j in product(range(-_REACH, _REACH + 1), repeat=2):
        there = around[:, t, h + i + _REACH, w + j + _REACH]
        behind = i * down + j * right <= -0.9 * hypot(i, j) * torch.hypot(down, right)
        pure, masks = there[:3], (there[3:] > 0) & behind
        share = (mixed * pure).sum(dim=0) / pure.square().sum(dim=0).clamp(min=near**2)
        explained = (mixed - share * pure).norm(dim=0) < near + _OFF * mixed.norm(dim=0)
        least = torch.where(explained & masks, torch.minimum(least, share), least)
        has_inside |= masks[0]
    from_inside, from_rim = least
    found = torch.where(has_inside, from_inside, from_rim)
    alien = (mixed.norm(dim=0) / near - 2) / 2  # where nothing explains it: ringing around the figure, or an outline
    return torch.where(found.isfinite(), found, alien).clamp(0, 1)


def _towards(mask: Mask) -> tuple[Float[Tensor, "t h w"], Float[Tensor, "t h w"]]:
    """The direction, down and right, in which most of the mask lies."""
    offsets = torch.arange(-1.0, 2.0).expand(3, 3)
    kernels = torch.stack([offsets.T, offsets])[:, None]
    padded = functional.pad(mask.float()[:, None], (1, 1, 1, 1), mode="replicate")
    down, right = functional.conv2d(padded, kernels).unbind(1)
    return down, right


def _bled(colour: Clip, alpha: Float[Tensor, "t h w"]) -> Clip:
    """Transparent pixels beside the figure take its colour, the others black: engines that filter textures mix them in."""
    both = torch.cat([colour * alpha, alpha[None]])
    mean = functional.avg_pool2d(both.transpose(0, 1), 3, stride=1, padding=1).transpose(0, 1)
    neighbours = torch.where(mean[3] > 0, mean[:3] / mean[3].clamp(min=1e-6), -1)
    return torch.where(alpha > 0, colour, neighbours)


def _grown(mask: Mask, reach: int) -> Mask:
    return functional.max_pool2d(mask.float()[:, None], 2 * reach + 1, stride=1, padding=reach)[:, 0] > 0
