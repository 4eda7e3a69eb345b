"""Pipelines of other people that can be opened as systems of ours, by the class that ``model_index.json`` names."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from noisereel import checkpoint
from noisereel.pretrained.folder import Component, write_component
from noisereel.system import System

FAMILIES = {
    "StableDiffusionPipeline": "noisereel.pretrained.unet_pipelines:stable_diffusion",
    "TextToVideoSDPipeline": "noisereel.pretrained.unet_pipelines:text_to_video_sd",
    "CogVideoXPipeline": "noisereel.pretrained.cogvideox:cogvideox",
    "CogVideoXImageToVideoPipeline": "noisereel.pretrained.cogvideox:cogvideox",
    "WanPipeline": "noisereel.pretrained.wan:wan",
    "WanImageToVideoPipeline": "noisereel.pretrained.wan:wan",
}


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """Someone else's pipeline as a system of ours; ``components`` are its networks, by folder."""

    system: System
    components: Mapping[str, Component]
    guidance: float  # the scale its authors sample with
    source: Path
    index: Mapping[str, Any]


def open_foreign(folder: Path, dtype: torch.dtype = torch.float32) -> Foreign:
    """The pipeline in a diffusers folder.

    Raises:
        ValueError: a family that is not supported, or a part that cannot be opened; one line says which and why.
    """
    index = checkpoint.read_index(folder)
    name = index.get("_class_name")
    if name not in FAMILIES:
        what = f"holds a {name}, which" if name else "names no recipe and no pipeline, so it"
        raise ValueError(f"{folder} {what} cannot be opened; what can: {', '.join(FAMILIES)}")
    module, function = FAMILIES[name].split(":")
    read: Callable[[Path, Mapping[str, Any], torch.dtype], Foreign] = getattr(importlib.import_module(module), function)
    return read(folder, index, dtype)


def write_foreign(foreign: Foreign, folder: Path, dtype: torch.dtype | None = None, card: str = "") -> None:
    """Write a pipeline as diffusers does, with the weights its networks have now; the rest is copied from its source.

    Raises:
        ValueError: the folder holds something that is not a checkpoint, weights are not finite, or the source is gone.
    """
    checkpoint.refuse_strangers(folder)
    copied = [name for name, part in foreign.index.items() if is_part(part) and name not in foreign.components]
    if lost := [name for name in copied if not (foreign.source / name).is_dir()]:
        raise ValueError(f"{foreign.source}, from which {', '.join(lost)} would be copied, is gone: open the model again")
    with checkpoint.whole(folder) as new:
        checkpoint.keep_others(folder, new, foreign.index)
        checkpoint.write_json(new / checkpoint.INDEX, dict(foreign.index))
        if card:
            (new / checkpoint.CARD).write_text(card, encoding="utf-8")
        for name, component in foreign.components.items():
            write_component(new / name, component, dtype)
        for name in copied:
            shutil.copytree(foreign.source / name, new / name, ignore=shutil.ignore_patterns(*PICKLES))


def is_part(entry: Any) -> bool:
    """Whether an entry of ``model_index.json`` names the class of a component that is there."""
    return isinstance(entry, list) and len(entry) == 2 and entry[1] is not None


PICKLES = [f"*{suffix}" for suffix in checkpoint.PICKLES]
