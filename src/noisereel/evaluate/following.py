"""Prompt following on the shapes world: what was asked for against what an oracle reads back from the pixels."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from noisereel.system import System
from noisereel.types import Video, generators
from noisereel.worlds.oracle import ATTRIBUTES, Rate, score
from noisereel.worlds.shapes import Part, Scene, Shapes, render
from noisereel.worlds.shapes_words import Wording


@dataclass(frozen=True, kw_only=True)
class Following:
    """How often each attribute, and ``"all"`` of them together, came out as asked, between a ceiling and two controls."""

    model: dict[str, Rate]
    ceiling: dict[str, Rate]  # true clips, rendered at the model's size
    shuffled: dict[str, Rate]  # the model's clips, judged by each other's prompts
    frozen: dict[str, Rate]  # the model's first frames, standing still
    count: int
    seed: int
    wording: Wording
    shape: tuple[int, int, int]
    seconds_per_clip: float

    def table(self) -> list[tuple[str, Rate, Rate, Rate, Rate]]:
        """One row for each attribute: the model, the ceiling, and the two controls."""
        columns = (self.model, self.ceiling, self.shuffled, self.frozen)
        return [(name, *(rates[name] for rates in columns)) for name in (*ATTRIBUTES, "all")]  # type: ignore[misc]

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON-able values."""
        rates = {
            kind: {name: {"rate": rate.rate, "low": rate.low, "high": rate.high} for name, rate in getattr(self, kind).items()}
            for kind in ("model", "ceiling", "shuffled", "frozen")
        }
        rest = {name: getattr(self, name) for name in ("count", "seed", "wording", "shape", "seconds_per_clip")}
        return rates | rest


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Progress of an evaluation: how many prompts have their video."""

    done: int
    total: int
    following: Following | None = None  # with the last, and what was judged
    videos: Video | None = None
    prompts: Sequence[str] = ()
    scenes: Sequence[Scene] = ()


def following(
    system: System, *, part: Part, count: int = 256, seed: int = 0, batch: int = 32, wording: Wording = "seen"
) -> Iterator[Sampled]:
    """Sample a video for each of ``count`` held-out prompts, and judge them; the last item carries the result.

    The prompts' attribute combinations never occur in training; with ``wording="unseen"`` neither do their phrasings.

    Raises:
        ValueError: fewer than two prompts: nothing could be shuffled; videos too small or short for the oracle.
    """
    if count < 2:
        raise ValueError(f"evaluation needs at least 2 prompts, not {count}; 256 give an interval of about 0.06")
    shape, fps = system.last.shape, system.last.fps
    world = Shapes(
        part=part, split="held_out", frames=shape[0], height=shape[1], width=shape[2], fps=fps, seconds=shape[0] / fps
    )
    asked = world.captions(count, "held_out", wording)
    prompts, scenes = [caption for caption, _ in asked], [scene for _, scene in asked]
    # First, for it also finds out whether the oracle can read videos of this shape.
    ceiling = score([render(scene, *shape, fps) for scene in scenes], scenes, fps, part)
    videos: list[Video] = []
    begun = time.monotonic()
    for start in range(0, count, batch):
        chosen = prompts[start : start + batch]
        rng = generators(seed, range(start, start + len(chosen)))
        *_, last = system.sample(chosen, rng)
        assert last.video is not None
        videos.append(last.video.cpu())
        if start + batch < count:
            yield Sampled(done=start + len(chosen), total=count)
    seconds = (time.monotonic() - begun) / count
    every = torch.cat(videos)
    result = judged(every, scenes, fps, part)
    yield Sampled(
        done=count,
        total=count,
        following=Following(
            **result, ceiling=ceiling, count=count, seed=seed, wording=wording, shape=shape, seconds_per_clip=seconds
        ),
        videos=every,
        prompts=prompts,
        scenes=scenes,
    )


def judged(videos: Video, scenes: Sequence[Scene], fps: float, part: Part) -> dict[str, dict[str, Rate]]:
    """The verdict on videos that were asked to show ``scenes``, and on the two controls made of them."""
    return dict(
        model=score(videos, scenes, fps, part),
        shuffled=score(videos, [*scenes[1:], scenes[0]], fps, part),
        frozen=score(videos[:, :, :1].expand_as(videos), scenes, fps, part),
    )
