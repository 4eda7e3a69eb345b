"""How noisy should what a cascade's stages are given be in sampling? Searched by prompt following, read by the oracle.

The networks are told the noise, so that any level can be tried after training (Ho et al. 2022, section 2.5, has SNR 3 and 5).
Every stage is given the same; the base is the same video in every row, so rows differ by the later stages alone.

    python benchmarks/augmentation.py runs/small/model --count 64 --snr 1 2 3 5 10 100
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace

import torch

from noisereel.conditioning import LowRes
from noisereel.diffusion.times import times_of
from noisereel.evaluate.following import following
from noisereel.pipeline import TextToVideo
from noisereel.system import System


def given_at(system: System, snr: float) -> System:
    """The same cascade, what each stage is given noised to that signal-to-noise ratio."""
    stages = {}
    for name, stage in system.stages.items():
        given = stage.given
        if isinstance(given, LowRes):
            level = float(times_of(given.schedule, torch.tensor([math.log(snr)])))
            given = replace(given, sample_noise=level)
        stages[name] = replace(stage, given=given)
    return System(stages=stages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--snr", type=float, nargs="+", default=[1.0, 2.0, 3.0, 5.0, 10.0, 100.0])
    parser.add_argument("--steps", type=int)
    parser.add_argument("--part", choices=("small", "full"), default="small")
    options = parser.parse_args()
    system = TextToVideo.from_pretrained(options.model).tuned(options.steps)
    print("| SNR | shape | colour | size | ground | motion | all |\n|---|---|---|---|---|---|---|", flush=True)
    rates: dict[float, dict[str, float]] = {}
    for snr in options.snr:
        *_, last = following(given_at(system, snr), part=options.part, count=options.count, batch=16)
        assert last.following is not None
        rates[snr] = {name: rate.rate for name, rate in last.following.model.items()}
        print(f"| {snr:g} | {' | '.join(f'{rate:.3f}' for rate in rates[snr].values())} |", flush=True)
    best = max(rates, key=lambda snr: rates[snr]["all"])
    print(json.dumps({"best": best, "count": options.count, "rates": rates}))


if __name__ == "__main__":
    main()
