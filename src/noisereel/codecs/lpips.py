"""The published perceptual distance, from weights that the user has: a VGG network and LPIPS's weights of its channels."""

from __future__ import annotations

import re
from itertools import chain
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from noisereel.codecs.features import FeatureNet

# Of ``lpips``, for images in [-1, 1]: ImageNet's mean and deviation on that range.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)

# torchvision and timm number the layers of VGG in one row, ``lpips`` in five slices, with the same numbers.
CONV = re.compile(r"(?:features|net\.slice\d)\.(\d+)\.(weight|bias)")
CHANNELS = re.compile(r"lin(\d)\.model\.1\.weight")

ADVICE = "put there the weights of VGG-16 and of lpips (its vgg.pth), as safetensors"


def open_lpips(folder: str | Path) -> FeatureNet:
    """The distance of the safetensors files in a folder: VGG-16, as torchvision, timm or ``lpips`` names it, and the ``lin``s.

    Raises:
        ValueError: there is no such file, one is not whole, or the weights are not all there or not of one network.
    """
    folder = Path(folder)
    tensors = _read(folder)
    convs = {(int(match[1]), match[2]): tensors[key] for key in tensors if (match := CONV.fullmatch(key))}
    linear = {int(match[1]): tensors[key] for key in tensors if (match := CHANNELS.fullmatch(key))}
    for name, found in (("VGG's features.N.weight", convs), ("LPIPS's linN.model.1.weight", linear)):
        if not found:
            raise ValueError(f"{folder} holds no {name}: {ADVICE}")
    stages = _stages({number for number, _ in convs})
    try:
        net = FeatureNet(stages=[[len(convs[number, "weight"]) for number in stage] for stage in stages])
        layers = (layer for layer in net.modules() if isinstance(layer, nn.Conv2d))
        for layer, number in zip(layers, chain(*stages), strict=True):
            layer.load_state_dict({kind: convs[number, kind] for kind in ("weight", "bias")})
        weights = torch.cat([linear[depth].flatten() for depth in range(len(stages))])
        net.load_state_dict(dict(shift=torch.tensor(SHIFT), scale=torch.tensor(SCALE), weights=weights), strict=False)
    except (KeyError, RuntimeError) as error:
        raise ValueError(f"{folder} holds weights that are not all of one network: {ADVICE}") from error
    return net.requires_grad_(False).eval()


def _stages(numbers: set[int]) -> list[list[int]]:
    """The convolutions of each stage: within one, only a ReLU stands between two; between stages, a pooling too."""
    first, *others = sorted(numbers)
    stages = [[first]]
    for number in others:
        if number - stages[-1][-1] == 2:
            stages[-1].append(number)
        else:
            stages.append([number])
    return stages


def _read(folder: Path) -> dict[str, Tensor]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder} holds no safetensors files: {ADVICE}")
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            tensors |= load_file(file)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{file} is not a whole safetensors file ({error}): fetch or save it again") from error
    return tensors
