"""How near a model's super-resolution comes to the truth, beside what needs no network.

    python benchmarks/super_resolution.py MODEL [--data shapes] [--clips 32] [--steps 1 2 4 8] [--real FOLDER]

In space: held-out clips made smaller and enlarged again, beside bicubic enlargement. In time: every n-th frame of held-out
clips in which something moves; the frames between are measured, beside repetition and linear blending. With --real, middle
parts of the clips of a folder take their place, as they are.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from noisereel.conditioning import resize
from noisereel.data.reader import probe, read_clip
from noisereel.evaluate.fidelity import bicubic, blended, flicker, psnr, repeated, ssim
from noisereel.pipeline import TextToVideo
from noisereel.stage import Stage
from noisereel.types import Video
from noisereel.upscale import lowres, upscale
from noisereel.worlds.pools import Pools

MOVES = 1e-3  # mean absolute change of a frame from the last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="upscaler")
    parser.add_argument("--data", default="shapes", help="a world, as in training; several joined by + are measured one by one")
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--size", type=int, default=64, help="height and width of the truth")
    parser.add_argument("--steps", type=int, nargs="+", default=[1])
    parser.add_argument("--tile", type=int)
    parser.add_argument("--real", type=Path, help="a folder of clips instead of a world")
    options = parser.parse_args()
    torch.set_num_threads(1)
    stages = TextToVideo.from_pretrained(options.model).system.stages
    for name, clips in sources(options):
        for stage in stages.values():
            measure = in_time if lowres(stage).time > 1 else in_space
            for steps in options.steps:
                found = measure(replace(stage, steps=steps), clips, options.tile)
                print(json.dumps({"data": name, "clips": len(clips), "steps": steps, **found}), flush=True)


def sources(options: argparse.Namespace) -> list[tuple[str, list[Video]]]:
    """Clips of 16 frames by where they are from."""
    if options.real:
        files = sorted(path for path in options.real.iterdir() if path.suffix in (".mp4", ".mkv", ".gif", ".webm"))
        return [("real", [real(path) for path in files])]
    shape = (16, options.size, options.size)
    held_out = {name: Pools.open(name, shape=shape, fps=16.0, seconds=1.0).held_out for name in options.data.split("+")}
    return [(name.split("=")[0], [pool[i].video[None] for i in range(options.clips)]) for name, pool in held_out.items()]


def real(path: Path) -> Video:
    """16 frames from the middle, and of each the middle 256x256 pixels, as they are."""
    facts = probe(path)
    start = max(0.0, facts.seconds / 2 - 8 / facts.fps)
    video = read_clip(path, frames=16, fps=facts.fps, start=start)
    height, width = (min(256, size) // 16 * 16 for size in video.shape[-2:])
    top, left = (video.shape[2] - height) // 2, (video.shape[3] - width) // 2
    return video[None, :, :, top : top + height, left : left + width]


def in_space(stage: Stage, clips: Sequence[Video], tile: int | None) -> dict[str, object]:
    """PSNR, SSIM and flicker of frames made smaller and enlarged again."""
    by = lowres(stage).space
    small = [resize(clip, clip.shape[-2] // by, clip.shape[-1] // by) for clip in clips]
    ways: dict[str, Callable[[Video], Video]] = {
        "model": lambda video: enlarged(video, stage, tile),
        "bicubic": lambda video: bicubic(video, video.shape[-2] * by, video.shape[-1] * by),
    }
    return {"space": by, **{name: scores([way(one) for one in small], clips) for name, way in ways.items()}}


def in_time(stage: Stage, clips: Sequence[Video], tile: int | None) -> dict[str, object]:
    """The same of the frames between those that are given, the last few aside: there is nothing after them."""
    by = lowres(stage).time
    moving = [clip for clip in clips if (clip[:, :, ::by].diff(dim=2).abs().mean() > MOVES)]
    between = [i for i in range(16 - by) if i % by]
    ways: dict[str, Callable[[Video], Video]] = {
        "model": lambda video: enlarged(video, stage, tile),
        "blending": lambda video: blended(video, by),
        "repetition": lambda video: repeated(video, by),
    }
    found: dict[str, object] = {"time": by, "moving": len(moving)}
    for name, way in ways.items():
        made = [way(clip[:, :, ::by])[:, :, between] for clip in moving]
        found[name] = scores(made, [clip[:, :, between] for clip in moving])
    return found


def enlarged(video: Video, stage: Stage, tile: int | None) -> Video:
    return torch.cat(list(upscale(video[0].unbind(1), [stage], tile=tile)), dim=1)[None]


def scores(made: Sequence[Video], truth: Sequence[Video]) -> dict[str, float]:
    """Means over the clips; PSNR also with its standard error, exact clips counted as 60 dB."""
    pairs = list(zip(made, truth, strict=True))
    decibels = torch.cat([psnr(one, true) for one, true in pairs]).clamp(max=60)
    steady: Tensor = torch.cat([flicker(one, true) for one, true in pairs])
    return {
        "psnr": round(float(decibels.mean()), 2),
        "error": round(float(decibels.std() / len(decibels) ** 0.5), 2),
        "ssim": round(float(torch.cat([ssim(one, true) for one, true in pairs]).mean()), 4),
        "flicker": round(float(steady[steady.isfinite()].mean()), 3),
    }


if __name__ == "__main__":
    main()
