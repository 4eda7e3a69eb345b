"""LPIPS from a folder of the user's: either layout of names, the published formula, and words for what is missing."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from noisereel.codecs.lpips import open_lpips
from noisereel.types import generators, rand

# A narrow network in the layout of VGG-16: the number of each convolution in ``features``, its slice in ``lpips``, its width.
VGG = [(0, 1, 4), (2, 1, 4), (5, 2, 6), (7, 2, 6), (10, 3, 8), (12, 3, 8), (14, 3, 8)]
VGG += [(17, 4, 8), (19, 4, 8), (21, 4, 8), (24, 5, 8), (26, 5, 8), (28, 5, 8)]
TAPS = (2, 7, 14, 21, 28)


def convs() -> dict[int, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    widths = [3, *(width for _, _, width in VGG)]
    weights = [torch.randn(new, old, 3, 3, generator=generator) * 0.3 for old, new in pairwise(widths)]
    return {number: (weight, weight[:, 0, 0, 0].clone()) for (number, _, _), weight in zip(VGG, weights, strict=True)}


def lins() -> dict[str, Tensor]:
    widths = {number: width for number, _, width in VGG}
    return {f"lin{i}.model.1.weight": rand(generators(i, [0]), widths[tap], 1, 1) for i, tap in enumerate(TAPS)}


def vgg() -> dict[str, Tensor]:
    names = ("weight", "bias")
    return {f"features.{number}.{name}": x for number, pair in convs().items() for name, x in zip(names, pair, strict=True)}


def torchvision_folder(folder: Path) -> Path:
    save_file(vgg() | {"classifier.0.weight": torch.zeros(2, 2)}, folder / "vgg16.safetensors")
    save_file(lins(), folder / "lpips.safetensors")
    return folder


def images(seed: int) -> Tensor:
    return rand(generators(seed, range(2)), 3, 32, 32) * 2 - 1


def published(one: Tensor, two: Tensor) -> Tensor:
    """Zhang et al. 2018, eq. 1, over the activations of VGG."""
    total = torch.zeros(2)
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    x, y = ((image - shift[:, None, None]) / scale[:, None, None] for image in (one, two))
    before = 0
    for number, (weight, bias) in convs().items():
        if number - before > 2:
            x, y = F.max_pool2d(x, 2), F.max_pool2d(y, 2)
        before = number
        x, y = (F.relu(F.conv2d(z, weight, bias, padding=1)) for z in (x, y))
        if number in TAPS:
            lin = lins()[f"lin{TAPS.index(number)}.model.1.weight"]
            units = [z / (1e-8 + z.square().sum(1, keepdim=True)).sqrt() for z in (x, y)]
            total += F.conv2d((units[0] - units[1]).square(), lin).mean((1, 2, 3))
    return total


def test_the_distance_is_the_published_one(tmp_path: Path) -> None:
    net = open_lpips(torchvision_folder(tmp_path))
    one, two = images(1), images(2)
    assert not any(parameter.requires_grad for parameter in net.parameters())
    torch.testing.assert_close(net.distance(one[:, :, None], two[:, :, None]), published(one, two))


def test_the_package_s_own_names_give_the_same(tmp_path: Path) -> None:
    slices = {number: which for number, which, _ in VGG}
    tensors: dict[str, Tensor] = {"scaling_layer.shift": torch.zeros(1, 3, 1, 1)}
    for number, (weight, bias) in convs().items():
        tensors |= {f"net.slice{slices[number]}.{number}.{kind}": x for kind, x in (("weight", weight), ("bias", bias))}
    for i, value in enumerate(lins().values()):
        tensors |= {f"lin{i}.model.1.weight": value, f"lins.{i}.model.1.weight": value.clone()}
    save_file(tensors, tmp_path / "lpips.safetensors")
    one, two = images(1), images(2)
    found = open_lpips(tmp_path).distance(one[:, :, None], two[:, :, None])
    torch.testing.assert_close(found, published(one, two))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no safetensors files"):
        open_lpips(tmp_path)
    torchvision_folder(tmp_path)
    (tmp_path / "lpips.safetensors").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"no LPIPS's linN\.model\.1\.weight"):
        open_lpips(tmp_path)
    (tmp_path / "elsewhere").rename(tmp_path / "lpips.safetensors")
    (tmp_path / "vgg16.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no VGG's features\.N\.weight"):
        open_lpips(tmp_path)


@pytest.mark.parametrize("spoiled", ["a lin of another width", "a lin too few", "a bias too few", "a conv of another width"])
def test_weights_of_different_networks_are_refused(tmp_path: Path, spoiled: str) -> None:
    torchvision_folder(tmp_path)
    if spoiled.startswith("a lin"):
        kept = lins()
        last = kept.pop("lin4.model.1.weight")
        save_file(
            kept | ({"lin4.model.1.weight": last[:, :3].contiguous()} if "width" in spoiled else {}),
            tmp_path / "lpips.safetensors",
        )
    else:
        tensors = vgg()
        bias = tensors.pop("features.28.bias")
        if "width" in spoiled:
            tensors |= {
                "features.28.bias": bias,
                "features.26.weight": torch.zeros(5, 8, 3, 3),
                "features.26.bias": torch.zeros(5),
            }
        save_file(tensors, tmp_path / "vgg16.safetensors")
    with pytest.raises(ValueError, match="not all of one network"):
        open_lpips(tmp_path)


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    file = torchvision_folder(tmp_path) / "vgg16.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"vgg16\.safetensors is not a whole"):
        open_lpips(tmp_path)
