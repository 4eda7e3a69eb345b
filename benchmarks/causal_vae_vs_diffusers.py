"""The causal autoencoder against diffusers' of CogVideoX and Wan: the same weights, interleaved in one run.

    python benchmarks/causal_vae_vs_diffusers.py [--rounds 5] [--sizes 64 128] [--encode] [--busy] [--memory] [--json]

The networks have the shape of the published ones at half their width, or a little more, random weights, and decode 9 frames (or
encode them). "bf16" is bf16 weights. The largest difference between what both say in fp32 is printed.

``--memory`` measures instead, in a process of its own each, how far the resident memory rises above that of the idle network
while 9 and 65 frames are decoded, the output included. There the allocator is told to give large blocks back at once
(``MALLOC_MMAP_THRESHOLD_``), for both, so that what counts is what is held.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLCogVideoX, AutoencoderKLWan
from torch import Tensor

from noisereel.codecs.causal_vae import CausalVAE
from noisereel.pretrained.cogvideox_vae import COGVIDEOX_VAE
from noisereel.pretrained.folder import Kind
from noisereel.pretrained.wan_vae import WAN_VAE

Call = Callable[[], Tensor]
CHANNELS, FRAMES, LONG = 16, 9, 65
PEERS: dict[str, tuple[Callable[[], Any], Kind]] = {
    "cogvideox": (lambda: AutoencoderKLCogVideoX(block_out_channels=(64, 128, 128, 256)), COGVIDEOX_VAE),
    "wan": (lambda: AutoencoderKLWan(base_dim=48), WAN_VAE),
}


def networks(name: str) -> dict[str, Any]:
    """The peer, and ours with its weights."""
    torch.manual_seed(0)
    build, kind = PEERS[name]
    peer = build().eval()
    config = {field: peer.config.get(field, default) for field, default in kind.defaults.items()}
    ours = kind.build(config).eval()
    kind.names(config).load(ours, peer.state_dict(), "the peer")
    return {"peer": peer, "ours": ours}


def decoded(net: Any, latent: Tensor) -> Tensor:
    if isinstance(net, CausalVAE):
        return net.decode_raw(latent).clamp(-1, 1)
    return net.decode(latent).sample.clamp(-1, 1)


def encoded(net: Any, video: Tensor) -> Tensor:
    return net.posterior(video)[0] if isinstance(net, CausalVAE) else net.encode(video).latent_dist.mean


def work(net: Any, given: Tensor, encode: bool) -> Call:
    def call() -> Tensor:
        with torch.inference_mode():
            return encoded(net, given) if encode else decoded(net, given)

    return call


def interleaved(calls: dict[str, Call], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """The median seconds of each call, all taking turns so that a busy machine slows them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = clock()
            call()
            if number:  # the first is a warm-up
                seconds[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def compare(name: str, size: int, rounds: int, encode: bool, clock: Callable[[], float]) -> list[dict[str, Any]]:
    """One row for each precision: median seconds of both, and their ratio (above 1: ours is faster)."""
    nets, rows = networks(name), []
    given = torch.randn(1, CHANNELS, 1 + (FRAMES - 1) // 4, size // 8, size // 8)
    given = torch.rand(1, 3, FRAMES, size, size) * 2 - 1 if encode else given
    difference = None
    for dtype in (torch.float32, torch.bfloat16):
        calls = {who: work(net.to(dtype), given.to(dtype), encode) for who, net in nets.items()}
        if dtype == torch.float32:
            theirs, ours = calls["peer"](), calls["ours"]()
            difference = float((ours - theirs).abs().max() / theirs.abs().max())
        seconds = interleaved(calls, rounds, clock)
        rows.append(
            dict(name=name, size=size, dtype=str(dtype).removeprefix("torch."), difference=difference)
            | dict(seconds=seconds, ratio=seconds["peer"] / seconds["ours"])
        )
    return rows


def peak(name: str, who: str, size: int, frames: int) -> float:
    """MiB that decoding needs above the idle network, measured in this process."""
    build, kind = PEERS[name]
    torch.set_num_threads(1)
    net = build().eval() if who == "peer" else kind.build(dict(kind.defaults) | dict(build().config)).eval()
    with torch.inference_mode():
        decoded(net, torch.randn(1, CHANNELS, 1, 2, 2))
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the highest so far is forgotten
        idle = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        decoded(net, torch.randn(1, CHANNELS, 1 + (frames - 1) // 4, size // 8, size // 8))
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - idle) / 2**10


def peaks(name: str, size: int) -> dict[str, Any]:
    """What both need for 9 and for 65 frames, each measured in a process of its own."""
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}

    def measured(who: str, frames: int) -> float:
        command = [sys.executable, __file__, "--peak", name, who, str(size), str(frames)]
        run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return float(run.stdout.split()[-1])

    both = {who: {frames: measured(who, frames) for frames in (FRAMES, LONG)} for who in ("peer", "ours")}
    return dict(name=name, size=size) | both


def line(row: dict[str, Any]) -> str:
    start = f"{row['name']:10}{row['size']:4} px  "
    if "seconds" in row:
        times = "  ".join(f"{who} {seconds * 1e3:7.0f} ms" for who, seconds in row["seconds"].items())
        return f"{start}{row['dtype']:9}{times}  {row['ratio']:5.2f}x  differs by {row['difference']:.1e}"
    growth = {who: row[who][LONG] - row[who][FRAMES] for who in ("peer", "ours")}
    return start + "  ".join(f"{who} {row[who][FRAMES]:5.0f} MiB, {growth[who]:+5.0f} to {LONG} frames" for who in growth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[64, 128])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--encode", action="store_true")
    parser.add_argument("--busy", action="store_true", help="count processor seconds, where others use the machine too")
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--peak", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        name, who, size, frames = options.peak
        print(peak(name, who, int(size), int(frames)))
        return
    clock = time.process_time if options.busy else time.perf_counter
    for name in options.networks:
        for size in options.sizes:
            rows = [peaks(name, size)] if options.memory else compare(name, size, options.rounds, options.encode, clock)
            for row in rows:
                print(json.dumps(row) if options.json else line(row), flush=True)


if __name__ == "__main__":
    main()
