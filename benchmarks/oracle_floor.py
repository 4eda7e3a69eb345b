"""What the oracle of the shapes world says about true, damaged and false clips: the table of docs/shapes.md.

python benchmarks/oracle_floor.py --count 1000
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from time import process_time

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from noisereel.types import generators
from noisereel.worlds.oracle import Rate, read, score
from noisereel.worlds.shapes import Part, Scene, Shapes, render

CASES: tuple[tuple[Part, int, int], ...] = (("small", 8, 32), ("full", 16, 64))
Change = Callable[[Tensor, Generator], Tensor]


def blur(video: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of each frame, ``sigma`` in pixels."""
    reach = torch.arange(-4.0, 5.0)
    kernel = torch.exp(-(reach**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    frames = F.pad(video.flatten(0, 1)[:, None], (4, 4, 4, 4), mode="replicate")
    frames = F.conv2d(F.conv2d(frames, kernel[None, None, None]), kernel[None, None, :, None])
    return frames.view(video.shape)


def noise(video: Tensor, deviation: float, rng: Generator) -> Tensor:
    """Gaussian noise on every pixel, clamped to [-1, 1]."""
    return (video + deviation * torch.randn(video.shape, generator=rng)).clamp(-1, 1)


CHANGES: dict[str, Change] = {
    "true clips": lambda video, rng: video,
    "8-bit": lambda video, rng: ((video + 1) * 127.5).round() / 127.5 - 1,
    "blur 0.5 px": lambda video, rng: blur(video, 0.5),
    "blur 1 px": lambda video, rng: blur(video, 1.0),
    "noise 0.05": lambda video, rng: noise(video, 0.05, rng),
    "noise 0.1": lambda video, rng: noise(video, 0.1, rng),
    "blur 0.5 px, noise 0.1": lambda video, rng: noise(blur(video, 0.5), 0.1, rng),
    "reversed": lambda video, rng: video.flip(1),
    "frames shuffled": lambda video, rng: video[:, torch.randperm(video.shape[1], generator=rng)],
    "frozen": lambda video, rng: video[:, :1].expand_as(video),
    "pure noise": lambda video, rng: torch.randn(video.shape, generator=rng).clamp(-1, 1),
}
# Where the order of frames is the lie, clips that stand still tell no lie.
ORDER_CONTROLS = ("reversed", "frames shuffled", "frozen")


def table(part: Part, frames: int, size: int, count: int, seed: int) -> None:
    """Prints the scores of each change of the clips of ``count`` held-out prompts, as Markdown."""
    scenes = [truth for _, truth in Shapes(part=part).captions(count)]
    moving = [truth for truth in scenes if truth.motion not in ("still", "sways")]
    print(f"\n**{part}**, {frames} x {size}x{size}, {count} clips, {len(moving)} of them of motions with a direction in time\n")
    print("| clips | shape | colour | size | ground | motion | all (95 % interval) |\n|---|---|---|---|---|---|---|")
    for name, change in CHANGES.items():
        print(_row(name, _scores(change, scenes, scenes, part, frames, size, seed)))
        if name in ORDER_CONTROLS:
            print(_row(f"{name}, directed motions", _scores(change, moving, moving, part, frames, size, seed)))
    others = [scenes[i] for i in torch.randperm(count, generator=generators(seed, [0])[0])]
    print(_row("captions shuffled", _scores(CHANGES["true clips"], scenes, others, part, frames, size, seed)))


def _scores(
    change: Change, shown: Sequence[Scene], judged: Sequence[Scene], part: Part, frames: int, size: int, seed: int
) -> dict[str, Rate]:
    rngs = generators(seed, range(len(shown)))
    clips = (change(render(truth, frames, size, size, float(frames)), rng) for truth, rng in zip(shown, rngs, strict=True))
    return score(clips, judged, float(frames), part)


def _row(name: str, rates: dict[str, Rate]) -> str:
    last = rates["all"]
    cells = [f"{rates[key].rate:.3f}" for key in ("shape", "colour", "size", "ground", "motion")]
    return f"| {name} | {' | '.join(cells)} | {last.rate:.3f} ({last.low:.3f}-{last.high:.3f}) |"


def speed(part: Part, frames: int, size: int) -> None:
    """Prints how fast clips are drawn and read, on processor time."""
    world = Shapes(part=part, frames=frames, height=size, width=size, fps=float(frames))
    clips = []
    start = process_time()
    for index in range(1000):
        clips.append(world[index].video)
    drawn = process_time()
    for clip in clips[:256]:
        read(clip, float(frames), part)
    print(f"\n{part}: {1000 / (drawn - start):.0f} clips/s drawn, 256 clips read in {process_time() - drawn:.1f} s, one core")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="clips in each row")
    parser.add_argument("--seed", type=int, default=0, help="of the noise and the shuffles; the clips are numbers 0 to count")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for case in CASES:
        table(*case, count=options.count, seed=options.seed)
        speed(*case)


if __name__ == "__main__":
    main()
