"""Stable Diffusion, an image model, and text-to-video-sd (ModelScope, Zeroscope), which adds time to its U-Net."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from noisereel.diffusion.guidance import cfg
from noisereel.pretrained.families import Foreign
from noisereel.pretrained.folder import Kind, open_component
from noisereel.pretrained.schedulers import open_scheduler
from noisereel.pretrained.stable_diffusion import UNET2D, VAE
from noisereel.pretrained.text_to_video_sd import UNET3D
from noisereel.stage import Stage
from noisereel.system import System
from noisereel.text.pretrained import PretrainedText


def stable_diffusion(folder: Path, index: Mapping[str, Any], dtype: torch.dtype) -> Foreign:
    """Stable Diffusion 1 and 2: videos of one frame. What screens its images is not opened."""
    return _latent_unet(folder, index, dtype, {"UNet2DConditionModel": UNET2D}, frames=1, guidance=7.5)


def text_to_video_sd(folder: Path, index: Mapping[str, Any], dtype: torch.dtype) -> Foreign:
    """ModelScope's and Zeroscope's text-to-video."""
    return _latent_unet(folder, index, dtype, {"UNet3DConditionModel": UNET3D}, frames=16, guidance=9.0)


def _latent_unet(
    folder: Path, index: Mapping[str, Any], dtype: torch.dtype, kinds: Mapping[str, Kind], frames: int, guidance: float
) -> Foreign:
    unet = open_component(folder / "unet", kinds, dtype)
    vae = open_component(folder / "vae", {"AutoencoderKL": VAE}, dtype)
    scheduling = open_scheduler(folder / "scheduler")
    side = vae.module.stride[1] * (unet.config["sample_size"] or 64)
    stage = Stage(
        net=unet.module,
        diffusion=scheduling.diffusion,
        codec=vae.module,
        text=PretrainedText(str(folder)).to(dtype),
        shape=(frames, side, side),
        fps=8.0,
        guide=cfg(guidance),
        sampler=scheduling.sampler,
        rungs=scheduling.rungs,
        steps=50,
    )
    return Foreign(
        system=System(stages={"base": stage}),
        components={"unet": unet, "vae": vae},
        guidance=guidance,
        source=folder,
        index=index,
    )
