"""The U-Net against lucidrains' ``video_diffusion_pytorch.Unet3D`` of the same widths, interleaved in one run.

    python benchmarks/unet_vs_lucidrains.py [--frames 16] [--size 64] [--rounds 5] [--json]

Both are 64 wide with multipliers 1, 2, 4, 8, have random weights and see the same video. They are not the same network:

- the peer has linear attention over space and softmax attention over time behind every level, full size included; ours has
  softmax attention over both at every level but full size, and once in each block rather than once a level;
- ours has one residual block a level going down and two going up, the peer two and two, but the peer's way up is narrower:
  ours has more parameters and does more arithmetic, as printed, and is timed for all of it;
- the peer normalises over channels, ours over groups of channels in space, as VDM and Stable Diffusion do.

The peer trains with fused AdamW, as ours does. "bf16" is PyTorch's autocast for both; "bf16 weights" is ours as it samples.
PyTorch does not count the arithmetic of fused attention on a CPU, which only ours uses.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import types
from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from noisereel.nets.unet import UNet
from noisereel.types import Cond

Call = Callable[[], object]


def peer(width: int) -> nn.Module:
    """lucidrains' network; its package imports torchvision, for data loading alone, which need not be there."""
    if "torchvision" not in sys.modules:
        stand_in = types.ModuleType("torchvision")
        stand_in.transforms = stand_in.utils = MagicMock()  # type: ignore[attr-defined]
        sys.modules["torchvision"] = stand_in
    from video_diffusion_pytorch import Unet3D

    return Unet3D(dim=width, dim_mults=(1, 2, 4, 8))


def ours(width: int, depth: int) -> nn.Module:
    attention = (False, True, True, True)
    return UNet(width=width, multipliers=(1, 2, 4, 8), depth=depth, attention=attention, temporal_attention="rotary")


def forward(net: nn.Module, video: Tensor, half: bool) -> Tensor:
    """One pass, with autocast if ``half``; each network is told the time in its own unit."""
    time_of = torch.full((len(video),), 0.5)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        return net(video, time_of, Cond()) if isinstance(net, UNet) else net(video, time_of * 1000)


def training_step(net: nn.Module, video: Tensor, half: bool) -> Call:
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        (forward(net, video, half).float() - video).square().mean().backward()
        optimiser.step()

    return step


def sampling(net: nn.Module, video: Tensor, half: bool) -> Call:
    def call() -> None:
        with torch.inference_mode():
            forward(net, video, half)

    return call


def interleaved(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """The median seconds of each call, all taking turns so that a busy machine slows them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number:  # the first is a warm-up
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def describe(net: nn.Module, video: Tensor) -> dict[str, Any]:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        forward(net, video, half=False)
    return {"parameters": sum(p.numel() for p in net.parameters()), "forward_flops": counter.get_total_flops()}


def compare(video: Tensor, rounds: int, width: int, depth: int) -> dict[str, Any]:
    """Parameters, arithmetic, median times and their ratios (above 1: ours is faster)."""
    torch.manual_seed(0)
    nets = {"peer": peer(width), "ours": ours(width, depth)}
    calls: dict[str, Call] = {}
    for name, net in nets.items():
        for precision in ("fp32", "bf16"):
            calls[f"{name} forward {precision}"] = sampling(net, video, precision == "bf16")
    half = ours(width, depth).bfloat16()
    calls["ours forward bf16 weights"] = sampling(half, video, half=False)
    seconds = interleaved(calls, rounds)
    steps = {
        f"{name} step {precision}": training_step(net, video, precision == "bf16")
        for name, net in nets.items()
        for precision in ("fp32", "bf16")
    }
    seconds |= interleaved(steps, rounds)
    both = ("forward fp32", "forward bf16", "step fp32", "step bf16")
    ratios = {name: seconds[f"peer {name}"] / seconds[f"ours {name}"] for name in both}
    ratios["forward bf16 weights"] = seconds["peer forward bf16"] / seconds["ours forward bf16 weights"]
    return {"networks": {name: describe(net, video) for name, net in nets.items()}, "seconds": seconds, "ratios": ratios}


def table(result: dict[str, Any]) -> str:
    lines = []
    for name, facts in result["networks"].items():
        lines.append(f"{name}: {facts['parameters'] / 1e6:.1f} M parameters, {facts['forward_flops'] / 1e9:.0f} GFLOP forward")
    lines.append(f"{'':24}{'peer':>10}{'ours':>10}{'ratio':>8}")
    seconds = result["seconds"]
    for name, ratio in result["ratios"].items():
        theirs = seconds.get(f"peer {name}", seconds["peer forward bf16"])
        lines.append(f"{name:24}{theirs * 1e3:>7.0f} ms{seconds[f'ours {name}'] * 1e3:>7.0f} ms{ratio:>7.2f}x")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--depth", type=int, default=1, help="residual blocks a level going down, of ours")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    video = torch.randn(1, 3, options.frames, options.size, options.size)
    result = vars(options) | compare(video, options.rounds, options.width, options.depth)
    print(json.dumps(result) if options.json else table(result))


if __name__ == "__main__":
    main()
