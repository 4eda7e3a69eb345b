"""What a training run would be: its phases, how large the networks are, what a clip costs. No network is allocated."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from noisereel.recipes.plan import rebuild
from noisereel.stage import Stage
from noisereel.trainer import Phase
from noisereel.types import Cond, Video, generators


def estimate(options: Namespace) -> dict[str, Any]:
    """The phases of the recipe as they would run; networks are made on PyTorch's meta device, which holds no numbers."""
    with torch.device("meta"):
        plan = rebuild({"recipe": options.recipe, "arguments": options.arguments})
    return {"recipe": options.recipe, "arguments": options.arguments, "phases": [about(phase) for phase in plan.phases()]}


def about(phase: Phase) -> dict[str, Any]:
    """One phase: sizes, clips, floating-point operations of training on a clip and on all of them."""
    parts = phase.target.parts()
    moved = sum(p.numel() for group in phase.target.parameter_groups() for p in group["params"])
    video = phase.data(0).video
    facts = {
        "phase": phase.name,
        "clips": phase.clips,
        "batch": len(video),
        "shape": list(video.shape[1:]),
        **{f"parameters {name}": sum(p.numel() for p in part.parameters()) for name, part in parts.items()},
        "parameters trained": moved,
    }
    if isinstance(phase.target, Stage):
        each = flops(phase.target, video[:1])
        facts |= {"gigaflops per clip": round(each / 1e9, 3), "petaflops in all": round(each * phase.clips / 1e15, 3)}
    return facts


def flops(stage: Stage, video: Video) -> int:
    """Floating-point operations of training on the video, forward and backward: counted, not run.

    Appended images are counted as frames of the clip, which is a little too much.
    """
    x = stage.codec.encode(video.to("meta"))
    hint = None if stage.given is None else stage.given.from_clip(video.to("meta"), generators(0, [0]))
    with FlopCounterMode(display=False) as counter:
        cond = Cond(text=stage.text(["a caption of middling length, eight words"]), fps=x.new_ones(1), hint=hint)
        stage.net(x, x.new_ones(1), cond).sum().backward()
    return counter.get_total_flops()
