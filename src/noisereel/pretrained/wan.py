"""Wan 2.1 and 2.2, from text or from an image (Wan team 2025)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from noisereel.diffusion.guidance import cfg
from noisereel.pretrained.families import Foreign, is_part
from noisereel.pretrained.folder import open_component
from noisereel.pretrained.image_to_video import ImageEncoder, MaskedLatents
from noisereel.pretrained.schedulers import open_scheduler
from noisereel.pretrained.wan_keys import TRANSFORMER
from noisereel.pretrained.wan_vae import WAN_VAE
from noisereel.stage import Stage
from noisereel.system import System
from noisereel.text.pretrained import PretrainedText
from noisereel.types import Cond, Times, Video

GUIDANCE = 5.0


def wan(folder: Path, index: Mapping[str, Any], dtype: torch.dtype) -> Foreign:
    """Wan, of whichever size; the one told a time for each frame (2.2 5B) makes videos from text and from images alike."""
    names = [name for name in ("transformer", "transformer_2") if is_part(index.get(name))]
    transformers = {name: open_component(folder / name, {"WanTransformer3DModel": TRANSFORMER}, dtype) for name in names}
    vae = open_component(folder / "vae", {"AutoencoderKLWan": WAN_VAE}, dtype)
    scheduling = open_scheduler(folder / "scheduler")
    encoder = ImageEncoder(folder, dtype) if is_part(index.get("image_encoder")) else None
    holds = bool(index.get("expand_timesteps"))
    animates = index["_class_name"] == "WanImageToVideoPipeline" and not holds
    stage = Stage(
        net=chosen([component.module for component in transformers.values()], index.get("boundary_ratio"), folder),
        diffusion=scheduling.diffusion,
        codec=vae.module,
        text=PretrainedText(str(folder)).to(dtype),
        shape=(121, 704, 1280) if holds else (81, 480, 832),
        fps=24.0 if holds else 16.0,
        given=MaskedLatents(codec=vae.module, encoder=encoder) if animates else None,
        prefixes=0.5 if holds else 0.0,
        guide=cfg(GUIDANCE),
        sampler=scheduling.sampler,
        rungs=scheduling.rungs,
        steps=50,
    )
    return Foreign(
        system=System(stages={"base": stage}),
        components={**transformers, "vae": vae},
        guidance=GUIDANCE,
        source=folder,
        index=index,
    )


class Experts(nn.Module):
    """Two networks, one for each side of a noise level (Wan 2.2 A14B); a batch is on one side of it."""

    folder = "transformer"

    def __init__(self, noisy: Any, clean: Any, boundary: float) -> None:
        super().__init__()
        self.noisy, self.clean, self.boundary = noisy, clean, boundary
        self.multiple, self.multiple_frames = noisy.multiple, noisy.multiple_frames

    def forward(self, x: Video, t: Times, cond: Cond) -> Video:
        # The boundary itself is on the noisy side, in float32 too.
        net = self.noisy if float(t.max()) > self.boundary - 1e-6 else self.clean
        return net(x, t, cond)

    @property
    def blocks(self) -> nn.ModuleList:
        """Of both."""
        return nn.ModuleList([*self.noisy.blocks, *self.clean.blocks])

    def temporal_parameters(self) -> Iterator[nn.Parameter]:
        """Of both."""
        yield from self.noisy.temporal_parameters()
        yield from self.clean.temporal_parameters()


def chosen(nets: list[Any], boundary: float | None, folder: Path) -> Any:
    """The one network, or two and where they change."""
    if len(nets) != (1 if boundary is None else 2):
        raise ValueError(f"{folder} has {len(nets)} transformers and boundary_ratio={boundary}: one has none, two have one")
    return nets[0] if boundary is None else Experts(nets[0], nets[1], boundary)
