"""CogVideoX 2B, 5B and 1.5, from text or from an image (Yang et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from noisereel.diffusion.guidance import cfg
from noisereel.pretrained.cogvideox_keys import TRANSFORMER
from noisereel.pretrained.cogvideox_vae import COGVIDEOX_VAE
from noisereel.pretrained.families import Foreign
from noisereel.pretrained.folder import Component, open_component
from noisereel.pretrained.image_to_video import FirstLatent
from noisereel.pretrained.schedulers import open_scheduler
from noisereel.stage import Stage
from noisereel.system import System
from noisereel.text.pretrained import PretrainedText

GUIDANCE = 6.0


def cogvideox(folder: Path, index: Mapping[str, Any], dtype: torch.dtype) -> Foreign:
    """CogVideoX, of whichever size; where its class says so, it animates an image."""
    transformer = open_component(folder / "transformer", {"CogVideoXTransformer3DModel": TRANSFORMER}, dtype)
    vae = open_component(folder / "vae", {"AutoencoderKLCogVideoX": COGVIDEOX_VAE}, dtype)
    scheduling = open_scheduler(folder / "scheduler")
    config, (_, height, width) = transformer.config, vae.module.stride
    stage = Stage(
        net=transformer.module,
        diffusion=scheduling.diffusion,
        codec=vae.module,
        text=PretrainedText(str(folder), max_length=config["max_text_seq_length"]).to(dtype),
        shape=(config["sample_frames"], config["sample_height"] * height, config["sample_width"] * width),
        fps=16.0 if config["patch_size_t"] else 8.0,
        given=image(transformer, vae) if index["_class_name"] == "CogVideoXImageToVideoPipeline" else None,
        guide=cfg(GUIDANCE),
        sampler=scheduling.sampler,
        rungs=scheduling.rungs,
        steps=50,
    )
    return Foreign(
        system=System(stages={"base": stage}),
        components={"transformer": transformer, "vae": vae},
        guidance=GUIDANCE,
        source=folder,
        index=index,
    )


def image(transformer: Component, vae: Component) -> FirstLatent:
    """What the transformer is given of an image."""
    return FirstLatent(
        codec=vae.module,
        scale=vae.config["scaling_factor"] ** -2 if vae.config["invert_scale_latents"] else 1.0,
        spare=(transformer.config["patch_size_t"] or 1) - 1,
    )
