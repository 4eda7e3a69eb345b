"""The networks of Video LDM: an image model, new or somebody's, the video model around it, and what fills in between."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from noisereel import checkpoint
from noisereel.codecs.frame_vae import FrameVAE
from noisereel.conditioning import KnownFrames, every, first
from noisereel.diffusion.process import Diffusion
from noisereel.diffusion.samplers import ddim
from noisereel.diffusion.schedules import LinearBeta
from noisereel.diffusion.times import stratified
from noisereel.nets.unet import UNet
from noisereel.pretrained.families import open_foreign
from noisereel.recipes.plan import reopened
from noisereel.recipes.words import text_encoder
from noisereel.stage import Stage

# What makes a video network of an image network.
TEMPORAL: dict[str, Any] = dict(
    temporal_attention="rotary", temporal_conv="residual", blend=True, hint_path="temporal", scalars=("fps", "hint_noise")
)


def new(preset: dict[str, Any], text: str) -> Stage:
    """An image model that has learned nothing, but for the text encoder of the model named ``text``, if any."""
    encoder = text_encoder(text, preset["text"])
    codec = FrameVAE(**preset["vae"])
    sizes = preset["net"] | ({"pooled_dim": encoder.pooled_dim} if "pooled_dim" in preset["net"] else {})
    net = UNet(channels=codec.channels, text_dim=encoder.dim, attention_kind="transformer", temporal_attention="none", **sizes)
    # eps says nothing where no signal is left; v does, and what would be left tells the colour of a plain ground too early.
    schedule = LinearBeta(start=0.00085, end=0.012, scaled=True, zero_terminal=preset["predicts"] == "v")
    diffusion = Diffusion(schedule=schedule, predicts=preset["predicts"], draw=stratified)
    shape = (1, *preset["shape"][1:])
    return Stage(net=net, diffusion=diffusion, codec=codec, text=encoder, shape=shape, fps=preset["fps"], sampler=ddim())


def opened(folder: Path) -> Stage:
    """An image model somebody trained: Stable Diffusion, or a system of this recipe.

    Raises:
        ValueError: there is no such model in the folder.
    """
    own = "recipe" in checkpoint.read_index(folder)
    with torch.device("cpu"):  # where weights can be read, even if what is built here will hold no numbers
        stage = (reopened(folder) if own else open_foreign(folder).system).first
    for part in stage.parts().values():
        part.to(torch.get_default_device())
    if not isinstance(stage.net, UNet) or not isinstance(stage.codec, FrameVAE):
        raise ValueError(f"{folder} holds no image model: give that of a Stable Diffusion pipeline, or of recipe video_ldm")
    return stage


def in_motion(still: Stage, preset: dict[str, Any], captions: bool) -> Stage:
    """The video model around an image model: its networks with layers over time, which are silent at birth."""
    assert isinstance(still.net, UNet)
    assert isinstance(still.codec, FrameVAE)
    given = KnownFrames(
        which=first(0, 1, 2), video_channels=still.codec.channels, noise=0.25, schedule=still.diffusion.schedule
    )
    reads = dict(temporal_transformer="text" if captions else "none", reach=preset["shape"][0], hint_channels=given.channels)
    net = UNet(**still.net.config | TEMPORAL | reads)
    net.load_image(still.net.image_parameters())
    codec = FrameVAE(**still.codec.config | dict(temporal=True))
    codec.load_image(still.codec.image_state())
    return replace(still, net=net, codec=codec, shape=preset["shape"], fps=preset["fps"], given=given)


def between(before: Stage) -> Stage:
    """The stage that puts three frames between every two of the stage before.

    All rounds have one network, which is told the frame rate; its layers over time lie around the same image network.
    """
    net, (frames, height, width) = before.net, before.shape
    assert isinstance(net, UNet)
    assert isinstance(before.given, KnownFrames)
    if before.given.spacing == 1:
        net = deepcopy(net, memo={id(shared): shared for shared in net.image_parameters().values()})
    given = replace(before.given, which=every(4), spacing=4)
    return replace(before, net=net, given=given, shape=(4 * frames - 3, height, width), fps=4 * before.fps)
