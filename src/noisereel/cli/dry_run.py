"""What a training run would be: its phases, how large the networks are, what a clip costs. No network is allocated."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import replace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from noisereel.codecs.autoencoder import Autoencoder
from noisereel.data.latents import Latents
from noisereel.data.mix import InTurn, Mix
from noisereel.recipes.plan import rebuild
from noisereel.stage import Stage
from noisereel.trainer import Phase
from noisereel.types import Batch, Cond, Trainable, Video, generators


def estimate(options: Namespace) -> dict[str, Any]:
    """The phases of the recipe as they would run; networks are made on PyTorch's meta device, which holds no numbers."""
    with torch.device("meta"):
        plan = rebuild({"recipe": options.recipe, "arguments": options.arguments})
    return {"recipe": options.recipe, "arguments": options.arguments, "phases": [about(phase) for phase in plan.phases()]}


def about(phase: Phase) -> dict[str, Any]:
    """One phase: sizes, clips, floating-point operations of training on a clip and on all of them."""
    parts = phase.target.parts()
    moved = sum(p.numel() for group in phase.parameter_groups() for p in group["params"])
    mix = in_pixels(phase)
    video = replace(mix, batch=mix.world)(0).video
    facts = {
        "phase": phase.name,
        "clips": phase.clips,
        "batch": mix.batch,
        "shape": list(video.shape[1:]),
        **{f"parameters {name}": sum(p.numel() for p in part.parameters()) for name, part in parts.items()},
        "parameters trained": moved,
    }
    each = flops(phase.target, video.to("meta"))
    return facts | {"gigaflops per clip": round(each / 1e9, 3), "petaflops in all": round(each * phase.clips / 1e15, 3)}


def in_pixels(phase: Phase) -> Mix:
    """The phase's data, the first of several kinds, and clips instead of latents: there is no codec to encode them with.

    Raises:
        ValueError: its data is of a kind of its own.
    """
    data = phase.data.mixes[0] if isinstance(phase.data, InTurn) else phase.data
    if not isinstance(data, Mix):
        raise ValueError(f"phase {phase.name} has data of its own making: --dry-run cannot look into it")
    sources = {name: getattr(data, name) for name in ("video", "images")}
    unkept: dict[str, Any] = {name: source.source for name, source in sources.items() if isinstance(source, Latents)}
    return replace(data, **unkept)


def flops(target: Trainable, video: Video) -> int:
    """Floating-point operations of training on the video, forward and backward: counted, not run.

    Appended images are counted as frames of the clip, which is a little too much; what helps to train an autoencoder, such as
    a discriminator, is not counted.
    """
    if isinstance(target, Stage):
        with torch.no_grad():
            x = target.codec.encode(video)
        hint = target.hint(video, x, generators(0, [0]))
        with FlopCounterMode(display=False) as counter:
            caption, fps = "a caption of middling length, eight words", x.new_ones(1)
            told = target.told(Batch(video=video, captions=[caption], fps=fps), generators(0, [0]))
            cond = Cond(text=told, fps=fps, hint=hint)
            target.net(x, x.new_ones(1), cond).sum().backward()
        return counter.get_total_flops()
    if not isinstance(target, Autoencoder):
        return 0
    with FlopCounterMode(display=False) as counter:
        mean, _ = target.vae.posterior(video)
        target.vae.decode_raw(mean).sum().backward()
    return counter.get_total_flops()
