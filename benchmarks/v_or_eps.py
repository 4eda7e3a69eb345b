"""Imagen Video's claim about targets: networks that enlarge and predict noise shift colours, those that predict v do not.

The same network of the cascade, from the same weights, learns to enlarge the same clips by predicting v and by predicting eps,
with several seeds (Ho et al. 2022, section 2.4). Both then enlarge held-out clips, whose truth is known: reported are the error
of each frame's mean colour, how much that error changes from frame to frame, and PSNR.

    python benchmarks/v_or_eps.py --out runs/v_or_eps --size tiny --clips 4000 --seeds 3
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from noisereel.conditioning import LowRes, resize
from noisereel.data.mix import Mix
from noisereel.recipes.imagen_video import imagen_video
from noisereel.stage import Stage
from noisereel.trainer import Trainer
from noisereel.types import generators
from noisereel.worlds.pools import Pools

TARGETS = ("v", "eps")
HELD_OUT = 32


def trained(predicts: Any, seed: int, options: argparse.Namespace) -> Stage:
    """The stage after so many clips, with averaged weights."""
    plan = imagen_video(size=options.size, clips=options.clips, seed=seed)
    phase = next(phase for phase in plan.phases() if phase.name == options.stage)
    assert isinstance(phase.target, Stage)
    target = replace(phase.target, diffusion=replace(phase.target.diffusion, predicts=predicts))
    phase = replace(phase, target=target, held_out=None, prompts=(), validate_every=10**9, preview_every=10**9)
    trainer = Trainer(phase, options.out / f"{predicts}-seed{seed}", seed=seed, precision=options.precision)
    for progress in trainer.run():
        if progress.step % 100 == 0:
            print(f"{predicts}, seed {seed}: {progress.clips} clips, loss {progress.loss:.4f}", flush=True)
    trainer.adopt_average()
    return target


def measured(stage: Stage) -> dict[str, float]:
    """What it makes of held-out clips against their truth."""
    batch = Mix(video=Pools.open("shapes-small", shape=stage.shape, fps=stage.fps).held_out, batch=HELD_OUT)(0)
    assert isinstance(stage.given, LowRes)
    _, height, width = stage.shape
    small = resize(batch.video, height // stage.given.space, width // stage.given.space)
    *_, last = stage.sample(batch.captions, small, generators(0, range(HELD_OUT)))
    error = stage.decode(last.x) - batch.video
    colour = error.mean((3, 4))  # b c t
    return {
        "colour": float(colour.abs().mean()),
        "drift": float(colour.std(dim=2).mean()),
        "psnr": float(-10 * torch.log10((error / 2).square().mean())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", choices=("tiny", "small"), default="tiny")
    parser.add_argument("--stage", choices=("ssr1", "ssr2"), default="ssr1")
    parser.add_argument("--clips", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    options = parser.parse_args()
    found = {name: [measured(trained(name, seed, options)) for seed in range(options.seeds)] for name in TARGETS}
    print("\n| target | error of mean colour | its change over frames | PSNR |\n|---|---|---|---|")
    for name, runs in found.items():
        columns = [[run[measure] for run in runs] for measure in ("colour", "drift", "psnr")]
        cells = [f"{mean(column):.4f} ± {stdev(column) if len(column) > 1 else 0:.4f}" for column in columns]
        print(f"| {name} | {' | '.join(cells)} |")
    (options.out / "v_or_eps.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
