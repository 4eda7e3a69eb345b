"""Imagen Video: seven networks, each of which makes the video before it longer or larger (Ho et al. 2022, arXiv 2210.02303)."""

from __future__ import annotations

import math
from typing import Any

import torch

from noisereel.codecs.pixels import Pixels
from noisereel.conditioning import LowRes
from noisereel.diffusion.guidance import Guide, cfg, oscillate, thresholded
from noisereel.diffusion.process import Diffusion
from noisereel.diffusion.samplers import ddim
from noisereel.diffusion.schedules import Cosine
from noisereel.diffusion.times import ladder, stratified, times_of
from noisereel.nets.unet import UNet
from noisereel.recipes.imagen_video_sizes import TRAINING, Size, cascade
from noisereel.recipes.imagen_video_training import phases
from noisereel.recipes.plan import Plan, initialised
from noisereel.recipes.words import text_encoder
from noisereel.stage import Stage
from noisereel.system import System
from noisereel.types import TextEncoder

# Continuous cosine schedule, v-prediction, in every stage (section 2.4).
DIFFUSION = Diffusion(schedule=Cosine(), predicts="v", draw=stratified, tells="log_snr")
NOISIEST = 0.5  # the time, of 0 to 1, to which what a stage is given is noised at most in training: an SNR of 1


def imagen_video(
    size: Size = "small",
    data: str = "shapes-small",
    text: str = "",
    guidance: float = 4.0,
    steps: int = 0,
    snr: float = 0.0,
    blank: bool = False,
    stills: int = 0,
    clips: int = 0,
    rate: float = 0.0,
    seed: int = 0,
) -> Plan:
    """A cascade of one network that makes a small, short video of a sentence and six that make it longer and larger.

    Args:
        size: tiny (seconds, for tests), small (hours of a CPU core that computes in bf16), base (an accelerator), or paper
            (as published).
        data: what to train on, see ``noisereel.worlds.pools``.
        text: the name or folder of a trained model whose text encoder all stages share, frozen; else each learns its own.
        guidance: scale that alternates with 1, after a beginning at this scale alone, in the stages up to 80x48 pixels (the
            paper's is 15); those above are not guided.
        steps: sampling steps of every stage; 0 is each stage's own number.
        snr: signal-to-noise ratio of what a stage is given in sampling; 0 is each stage's own.
        blank: frames that a stage adds are given as blank ones, instead of repetitions of those before.
        stills: images the base learns from before the first video; 0 is the size's own number, as below.
        clips: how many clips each stage's training sees.
        rate: learning rate.
        seed: of the initial weights and of the order of the data.
    """
    rows = cascade(size)
    asked = {name: number for name, number in dict(stills=stills, rate=rate).items() if number}
    training = TRAINING[size] | asked
    over = {name: number for name, number in dict(steps=steps, snr=snr, clips=clips).items() if number}
    rows = {name: row | over for name, row in rows.items()}
    shared = text_encoder(text, training["text"]) if text else None
    stages = {}
    for number, (name, row) in enumerate(rows.items()):
        with initialised(seed + 1000 * number):
            encoder = shared or text_encoder("", training["text"])
            stages[name] = stage(row, encoder, training["net"], guidance, blank)
    system = System(stages=stages)
    return Plan(system=system, phases=lambda: phases(system, rows, training, data, seed))


def stage(row: dict[str, Any], text: TextEncoder, network: dict[str, Any], guidance: float, blank: bool) -> Stage:
    """One row of the table as a stage."""
    shape = (row["frames"], row["height"], row["width"])
    codec = Pixels(patch=row["patch"])
    given = low_res(row, shape, codec, blank) if row["time"] * row["space"] > 1 else None
    return Stage(
        net=net(row, codec.channels, text, network, given=given is not None),
        diffusion=DIFFUSION,
        codec=codec,
        text=text,
        shape=shape,
        fps=float(row["fps"]),
        given=given,
        guide=guide(guidance if row["oscillates"] else 1.0, row["steps"]),
        sampler=ddim(),
        steps=row["steps"],
    )


def net(row: dict[str, Any], channels: int, text: TextEncoder, network: dict[str, Any], *, given: bool) -> UNet:
    """Attention over time in the base, convolutions above; pixels attend to each other and to the text below full size."""
    levels = len(row["multipliers"])
    attends = row["temporal"] == "attention"
    return UNet(
        channels=channels,
        hint_channels=channels if given else 0,
        width=row["channels"],
        multipliers=row["multipliers"],
        depth=row["depth"],
        attention=[bool(row["spatial"] and level >= max(1, levels - (3 if attends else 2))) for level in range(levels)],
        # As in VDM: rotary positions alone would not tell the frames of mere noise apart.
        temporal_attention="relative" if attends else "none",
        temporal_conv="none" if attends else "residual",
        text_dim=text.dim if row["spatial"] else 0,
        pooled_dim=text.pooled_dim,
        scalars=("hint_noise",) if given else (),
        **network,
    )


def low_res(row: dict[str, Any], shape: tuple[int, int, int], codec: Pixels, blank: bool) -> LowRes:
    """The video of the stage before, noised at random in training, to one level in sampling, which the network is told."""
    level = times_of(DIFFUSION.schedule, torch.tensor([math.log(row["snr"])], device="cpu"))
    return LowRes(
        size=shape,
        time=row["time"],
        space=row["space"],
        blank=blank,
        noise=NOISIEST,
        sample_noise=float(level),
        tells="log_snr",
        codec=codec,
    )


def guide(scale: float, steps: int) -> Guide:
    """Dynamic thresholding (section 2.8); a scale above 1 alternates with none, after the first quarter of the steps."""
    if scale == 1:
        return thresholded(cfg(1.0))
    return thresholded(oscillate(scale, 1.0, -(-steps // 4), ladder(DIFFUSION.schedule, steps)))
