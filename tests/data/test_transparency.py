"""Scenes whose ground and coverage are known: cut out and put on another ground, they look as if rendered there."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from noisereel.data.transparency import plain_ground, transparent
from noisereel.worlds.shapes import COLOURS, GROUNDS, pixel, render, scene

SIZE = 48


def psnr(one: Tensor, other: Tensor) -> float:
    return float(10 * torch.log10(4 / (one - other).square().mean()))


def on(cutout: Tensor, ground: Tensor) -> Tensor:
    """The cutout composited over a colour."""
    alpha = (cutout[3:] + 1) / 2
    return alpha * cutout[:3] + (1 - alpha) * ground[:, None, None, None]


def colour(name: str) -> Tensor:
    return torch.from_numpy(pixel({**GROUNDS, **COLOURS}[name]))


def blurred(video: Tensor) -> Tensor:
    kernel = torch.tensor([0.25, 0.5, 0.25])
    weight = (kernel[:, None] * kernel).expand(3, 1, 3, 3)
    padded = torch.nn.functional.pad(video.movedim(1, 0), (1, 1, 1, 1), mode="replicate")
    return torch.nn.functional.conv2d(padded, weight, groups=3).movedim(0, 1)


@pytest.mark.parametrize(("noise", "blur", "least", "usual"), [(0.0, 0, 50, 60), (0.0, 1, 40, 48), (0.03, 0, 33, 40)])
def test_on_another_ground_it_looks_as_if_rendered_there(noise: float, blur: int, least: float, usual: float) -> None:
    reached = []
    for index in range(16):
        truth = scene(index, "full", "train")
        other = next(name for name in GROUNDS if name not in (truth.ground, truth.colour))
        before, after = (render(replace(truth, ground=ground), 3, SIZE, SIZE, 4.0) for ground in (truth.ground, other))
        if blur:
            before, after = blurred(before), blurred(after)
        before = before + noise * torch.randn(before.shape, generator=torch.Generator().manual_seed(index))
        reached.append(psnr(on(transparent(before.clamp(-1, 1)), colour(other)), after))
    assert min(reached) > least
    assert sorted(reached)[8] > usual


def test_on_its_own_ground_nothing_has_changed() -> None:
    truth = scene(3, "full", "train")
    video = render(truth, 3, SIZE, SIZE, 4.0)
    assert psnr(on(transparent(video), colour(truth.ground)), video) > 55


def test_holes_are_transparent_too() -> None:
    truth = next(found for i in range(99) if (found := scene(i, "full", "train")).shape == "ring")
    x, y, _ = (round(float(value[0]) * SIZE) for value in truth.state(torch.zeros(1).numpy()))
    assert transparent(render(truth, 1, SIZE, SIZE, 4.0))[3, 0, y, x] == -1


def test_hard_edges_stay_hard() -> None:
    """Pixel art: a dark outline round light cloth and a blade without outline, on white, green and magenta."""
    colours = torch.tensor([(40, 30, 30), (200, 200, 205), (150, 160, 190), (240, 200, 160)]) / 127.5 - 1
    dark, cloth, blade, skin = colours
    for ground in ((255, 255, 255), (40, 200, 60), (255, 0, 255)):
        video = (torch.tensor(ground) / 127.5 - 1)[:, None, None, None].repeat(1, 2, 24, 24)
        solid = torch.zeros(2, 24, 24, dtype=torch.bool)
        for paint, rows, columns in (
            (dark, slice(5, 19), slice(6, 16)),
            (cloth, slice(6, 18), slice(7, 15)),
            (skin, slice(7, 10), slice(8, 14)),
            (blade, slice(9, 11), slice(16, 23)),
        ):
            video[:, :, rows, columns] = paint[:, None, None, None]
            solid[:, rows, columns] = True
        alpha = transparent(video)[3]
        assert torch.equal(alpha > 0, solid)
        assert (alpha[solid] > 0.99).float().mean() > 0.98, "a pixel in a corner may be taken for a mixture"


def test_no_rim_of_the_ground_is_left_in_the_colours() -> None:
    """Red on white: what is not quite transparent is red, and so are the pixels just outside, which engines filter in."""
    truth = next(found for i in range(999) if (found := scene(i, "full", "train")).colour == "red" and found.ground == "white")
    cutout = transparent(render(truth, 2, SIZE, SIZE, 4.0))
    shown = cutout[3] > -0.9
    assert (cutout[:3, shown] - colour("red")[:, None]).abs().max() < 0.05
    beside = torch.nn.functional.max_pool2d(shown.float()[:, None], 3, stride=1, padding=1)[:, 0].bool() & ~shown
    assert (cutout[:3, beside] - colour("red")[:, None]).abs().max() < 0.3


def test_specks_of_noise_are_no_figure() -> None:
    ground = 0.2 + 0.02 * torch.randn(3, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    assert (transparent(ground)[3] == -1).all()


def test_a_figure_may_touch_the_border() -> None:
    video = torch.full((3, 2, 32, 32), 0.9)
    video[:, :, 16:, 10:20] = -0.5
    ground, _ = plain_ground(video)
    assert torch.equal(ground, torch.full((3,), 0.9))


@pytest.mark.parametrize("kind", ["gradient", "two halves", "texture"])
def test_a_ground_that_is_not_plain_is_refused(kind: str) -> None:
    video = torch.full((3, 2, 32, 32), 0.5)
    if kind == "gradient":
        video = torch.linspace(-1, 1, 32).expand(3, 2, 32, 32)
    elif kind == "two halves":
        video[:, :, :, 16:] = -0.5
    else:
        video = torch.rand(3, 2, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with pytest.raises(ValueError, match="the ground is not plain"):
        transparent(video)
