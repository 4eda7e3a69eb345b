"""Train the feature network that ``noisereel evaluate`` measures distances by, and write it where it is shipped.

python benchmarks/train_features.py --out runs/features --data shapes
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import torch

from noisereel import checkpoint
from noisereel.codecs.word_reader import words_of
from noisereel.data.mix import Mix
from noisereel.evaluate.features import SHIPPED, SIZE, ClipFeatures
from noisereel.trainer import Phase, Trainer
from noisereel.worlds.pools import Pools


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", default="shapes")
    parser.add_argument("--clips", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    pools = Pools.open(options.data, shape=SIZE, fps=float(SIZE[0]))
    counts = Counter(word for caption in pools.captions(2000) for word in words_of(caption))
    torch.manual_seed(options.seed)
    net = ClipFeatures(words=[word for word, count in sorted(counts.items()) if 20 <= count <= 1000])
    phase = Phase(
        name="features",
        target=net,
        data=Mix(video=pools.video, batch=32, seed=options.seed),
        held_out=Mix(video=pools.held_out, batch=256)(0),
        clips=options.clips,
        learning_rate=2e-3,
        warmup=3200,
        decay="cosine",
        ema=options.clips // 20,
        validate_every=4_000,
        preview_every=10**9,
    )
    trainer = Trainer(phase, options.out, seed=options.seed)
    for step in trainer.run():
        if step.held_out:
            print(step.clips, round(step.loss, 4), step.held_out, flush=True)
    trainer.adopt_average()
    net.normalise(phase.held_out.video)
    SHIPPED.mkdir(exist_ok=True)
    checkpoint.write_json(SHIPPED / "config.json", net.config)
    checkpoint.write_tensors(SHIPPED / "model.safetensors", {name: value.half() for name, value in net.state_dict().items()})


if __name__ == "__main__":
    main()
