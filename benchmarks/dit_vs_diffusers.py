"""The transformer against diffusers' ``CogVideoXTransformer3DModel``: the same weights, interleaved in one run.

    python benchmarks/dit_vs_diffusers.py [--depth 12] [--heads 6] [--rounds 9] [--positions sincos] [--json]

The default is shaped like CogVideoX, 12 layers 384 wide, and sees 320 tokens: 64 of text and 4 x 8 x 8 patches. Both have the
same random weights and the largest difference of what they say is printed. A training step is forward, backward and fused
AdamW of a batch of ``--batch``. "bf16" is bf16 weights in a forward pass, and PyTorch's autocast in training. "packed" is ours
inside ``packed_weights``, with weights laid out once for oneDNN.

How much the packing gives in fp32 depends on the processor: PyTorch's own fp32 product is MKL's, which is at the limit of Intel
cores and far from it on AMD's.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from diffusers import CogVideoXTransformer3DModel
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from torch import Tensor, nn

from noisereel.nets.dit import DiT
from noisereel.nets.packing import packed_weights
from noisereel.pretrained.cogvideox_keys import DEFAULTS, config_from, names
from noisereel.types import Cond, Text

Call = Callable[[], object]
TEXT_DIM, TEXT, FRAMES, SIZE = 512, 64, 4, 16


def networks(depth: int, heads: int, rope: bool) -> dict[str, nn.Module]:
    """The peer, and ours with its weights."""
    torch.manual_seed(0)
    peer = CogVideoXTransformer3DModel(
        num_layers=depth, num_attention_heads=heads, attention_head_dim=64, text_embed_dim=TEXT_DIM, max_text_seq_length=TEXT,
        sample_width=SIZE, sample_height=SIZE, sample_frames=4 * (FRAMES - 1) + 1, use_rotary_positional_embeddings=rope,
    )  # fmt: skip
    config = {**DEFAULTS, **{name: value for name, value in peer.config.items() if name in DEFAULTS}}
    ours = DiT(**config_from(config))
    names(config).load(ours, peer.state_dict(), "the peer")
    return {"peer": peer, "ours": ours}


class Inputs:
    """A batch as each network wants it."""

    def __init__(self, batch: int, rope: bool, dtype: torch.dtype = torch.float32) -> None:
        generator = torch.Generator().manual_seed(1)
        self.video = torch.randn(batch, 16, FRAMES, SIZE, SIZE, generator=generator).to(dtype)
        self.tokens = torch.randn(batch, TEXT, TEXT_DIM, generator=generator).to(dtype)
        self.time = torch.full((batch,), 0.5)
        self.cond = Cond(
            text=Text(tokens=self.tokens, mask=torch.ones(batch, TEXT, dtype=torch.bool), pooled=self.tokens[:, 0])
        )
        grid = SIZE // 2, SIZE // 2
        self.turn = get_3d_rotary_pos_embed(64, ((0, 0), grid), grid, FRAMES) if rope else None

    def through(self, net: nn.Module) -> Tensor:
        if isinstance(net, DiT):
            return net(self.video, self.time, self.cond)
        frames_first = self.video.transpose(1, 2)
        return net(frames_first, self.tokens, self.time * 1000, image_rotary_emb=self.turn).sample.transpose(1, 2)


def sampling(net: nn.Module, inputs: Inputs) -> Call:
    def call() -> None:
        with torch.inference_mode():
            inputs.through(net)

    return call


def training_step(net: nn.Module, inputs: Inputs, half: bool) -> Call:
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            out = inputs.through(net)
        (out.float() - inputs.video).square().mean().backward()
        optimiser.step()

    return step


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


def forward_times(nets: dict[str, nn.Module], inputs: Inputs, kind: str, rounds: int) -> dict[str, float]:
    laid_out = copy.deepcopy(nets["ours"])
    calls = {f"{name} forward {kind}": sampling(net, inputs) for name, net in nets.items()}
    calls[f"ours forward {kind} packed"] = sampling(laid_out, inputs)
    with packed_weights(laid_out):
        return interleaved(calls, rounds)


def compare(depth: int, heads: int, rope: bool, batch: int, rounds: int) -> dict[str, Any]:
    """The largest difference, median times and their ratios (above 1: ours is faster)."""
    nets, one = networks(depth, heads, rope), Inputs(1, rope)
    with torch.inference_mode():
        difference = float((one.through(nets["peer"]) - one.through(nets["ours"])).abs().max())
    seconds = forward_times(nets, one, "fp32", rounds)
    many = Inputs(batch, rope)
    for kind in ("fp32", "bf16"):
        steps = {f"{name} step {kind}": training_step(net, many, kind == "bf16") for name, net in nets.items()}
        seconds |= interleaved(steps, rounds)
    half = {name: net.bfloat16() for name, net in nets.items()}
    seconds |= forward_times(half, Inputs(1, rope, torch.bfloat16), "bf16", rounds)
    ratios = {}
    for name in ("forward fp32", "forward fp32 packed", "forward bf16", "forward bf16 packed", "step fp32", "step bf16"):
        ratios[name] = seconds[f"peer {name.removesuffix(' packed')}"] / seconds[f"ours {name}"]
    return {"difference": difference, "seconds": seconds, "ratios": ratios}


def table(result: dict[str, Any]) -> str:
    seconds = result["seconds"]
    lines = [f"largest difference {result['difference']:.1e}", f"{'':24}{'peer':>10}{'ours':>10}{'ratio':>8}"]
    for name, ratio in result["ratios"].items():
        theirs, ours = seconds[f"peer {name.removesuffix(' packed')}"], seconds[f"ours {name}"]
        lines.append(f"{name:24}{theirs * 1e3:>7.0f} ms{ours * 1e3:>7.0f} ms{ratio:>7.2f}x")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=12)
    parser.add_argument("--heads", type=int, default=6, help="of 64 each")
    parser.add_argument("--positions", choices=("sincos", "rope"), default="sincos", help="as in CogVideoX-2B or 5B")
    parser.add_argument("--batch", type=int, default=4, help="in training")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rope = options.positions == "rope"
    result = vars(options) | compare(options.depth, options.heads, rope, options.batch, options.rounds)
    print(json.dumps(result) if options.json else table(result))


if __name__ == "__main__":
    main()
