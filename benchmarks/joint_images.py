"""VDM's first claim at small scale: images appended to the training videos improve held-out quality (Ho et al. 2022, table 4).

The same network learns from the same videos with 0, 4 and 8 images appended to each, with several seeds. Held-out videos
are then scored by their denoising loss, averaged over five noise levels, with averaged weights:

- at equal steps, all after ``--clips`` videos, though 8 images double the frames of a step;
- at equal compute, all after as many frames as the 8-image run saw.

    python benchmarks/joint_images.py --out runs/joint --clips 8000 --seeds 3
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import torch

from noisereel.data.mix import Mix
from noisereel.recipes.vdm import SIZES, Size, vdm
from noisereel.trainer import Trainer
from noisereel.worlds.pools import Pools

IMAGES = (0, 4, 8)
STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # 97.5 % quantile by number of seeds


def run(images: int, seed: int, clips: int, out: Path, size: Size) -> dict[int, float]:
    """Mean held-out loss by clips seen."""
    plan = vdm(size=size, images=images, batch=8, clips=clips, seed=seed)
    stage = plan.system.first
    frames = stage.shape[0]
    pools = Pools.open("shapes-small", shape=stage.shape, fps=stage.fps)
    phase = replace(
        plan.phases()[-1],  # videos and images together, from the first step
        clips=clips * (frames + max(IMAGES)) // (frames + images),
        held_out=Mix(video=pools.held_out, batch=128)(0),
        decay="constant",  # so that a run has no end it is aimed at
        ema=clips // 8,
        validate_every=clips,
        prompts=(),
    )
    trainer = Trainer(phase, out / f"images{images}-seed{seed}", seed=seed, precision="bf16")
    for progress in trainer.run():
        if progress.held_out:
            print(f"{images} images, seed {seed}: {progress.clips} clips, {progress.clips_per_second:.0f}/s", flush=True)
    lines = [json.loads(line) for line in (trainer.folder / "metrics.jsonl").read_text().splitlines()]
    return {line["clips"]: mean(line["held_out"].values()) for line in lines if line.get("held_out")}


def at(measured: dict[int, float], clips: float) -> float:
    """The measure nearest to a number of clips."""
    return measured[min(measured, key=lambda seen: abs(seen - clips))]


def interval(values: Sequence[float]) -> str:
    """Mean and half-width of the 95 % interval over seeds."""
    half = STUDENT_T[len(values)] * stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{mean(values):.4f} ± {half:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=8000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--size", choices=("tiny", "small"), default="tiny")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = {
        (images, seed): run(images, seed, options.clips, options.out, options.size)
        for seed in range(options.seeds)
        for images in IMAGES
    }
    frames = SIZES[options.size]["shape"][0]
    print("\n| images | equal steps | equal compute |\n|---|---|---|")
    for images in IMAGES:
        runs = [found[images, seed] for seed in range(options.seeds)]
        fair = options.clips * (frames + max(IMAGES)) / (frames + images)
        print(f"| {images} | {interval([at(r, options.clips) for r in runs])} | {interval([at(r, fair) for r in runs])} |")
    (options.out / "joint_images.json").write_text(json.dumps({f"{i},{s}": r for (i, s), r in found.items()}, indent=1))


if __name__ == "__main__":
    main()
