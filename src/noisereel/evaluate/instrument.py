"""A model measured on the shapes world: prompts followed, motion, looks, distances, copying, beside truth and controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from noisereel.data.mix import Mix
from noisereel.evaluate.distances import frechet, kernel, nearest
from noisereel.evaluate.features import VERSION, shipped
from noisereel.evaluate.following import Following, Sampled, following
from noisereel.evaluate.measure import Measure, halves, mean_of
from noisereel.evaluate.motion import colour_drift, ground_flicker, off_course
from noisereel.system import System
from noisereel.types import Video, generators
from noisereel.worlds.oracle import read
from noisereel.worlds.shapes import Part, Scene, Shapes, render, scene

TRAINING_CLIPS = 2000  # among which copies are looked for
# Of single clips: what it means, and the controls it has to tell from the truth. Less is better.
OF_CLIPS = {
    "off course": (
        "distance from the nearest path that the law of motion asked for allows, in pictures; 1 where the object is missing",
        ("first frame frozen", "captions shuffled"),
    ),
    "colour drift": (
        "how far the object's colour ever is from that of its first frame, in OKLab; 1 where the object is missing",
        ("last frame paler",),
    ),
    "flicker": (
        "change of the border from frame to frame, where nothing moves, in levels of brightness (of 255)",
        ("every other frame brighter",),
    ),
}
REFERENCE = 1_000_000  # number of the first scene of a further set of true clips, which no prompt is about


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Progress of the instrument, and with the last item what it found and the videos it found it in."""

    done: int
    total: int
    following: Following | None = None
    measures: Sequence[Measure] = ()
    losses: Mapping[str, float] = field(default_factory=dict)
    videos: Video | None = None
    prompts: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Videos, and the scenes they should show."""

    videos: Video
    scenes: Sequence[Scene]
    fps: float
    part: Part

    def with_videos(self, videos: Video) -> Shown:
        """Other videos for the same scenes."""
        return Shown(videos=videos, scenes=self.scenes, fps=self.fps, part=self.part)


def measured(system: System, *, part: Part, count: int = 256, seed: int = 0, **settings: Any) -> Iterator[Measured]:
    """Sample a video for each of ``count`` held-out prompts and measure them; the last item carries everything.

    Raises:
        ValueError: as ``following``.
    """
    last: Sampled | None = None
    for last in following(system, part=part, count=count, seed=seed, **settings):
        yield Measured(done=last.done, total=last.total)
    assert last is not None
    assert last.following is not None
    assert last.videos is not None
    shape, fps = system.last.shape, system.last.fps
    scenes = last.scenes
    truth = torch.stack([render(one, *shape, fps) for one in scenes])
    model, true = (Shown(videos=videos, scenes=scenes, fps=fps, part=part) for videos in (last.videos.float(), truth))
    yield Measured(
        done=count,
        total=count,
        following=last.following,
        measures=[*clip_measures(model, true), *set_measures(model, true)],
        losses=held_out_losses(system, part, seed),
        videos=last.videos,
        prompts=last.prompts,
    )


def held_out_losses(system: System, part: Part, seed: int, count: int = 64) -> dict[str, float]:
    """The loss of each stage on held-out clips at fixed times, where 0 is clean and 1 is noise."""
    found: dict[str, float] = {}
    for name, stage in system.stages.items():
        frames, height, width = stage.shape
        seconds = frames / stage.fps
        world = Shapes(part=part, split="held_out", frames=frames, height=height, width=width, fps=stage.fps, seconds=seconds)
        batch = Mix(video=world, batch=count)(0)
        losses = stage.validate(batch, generators(seed, range(count)))
        found |= {f"{name}, t = {level.removeprefix('loss@')}": loss for level, loss in losses.items()}
    return found


def clip_measures(model: Shown, true: Shown) -> list[Measure]:
    """What can be said of every clip by itself."""
    values = {kind: clip_values(shown) for kind, shown in {"model": model, "truth": true, **spoilt(true)}.items()}
    return [
        Measure(
            name=name,
            meaning=meaning,
            better="less",
            model=mean_of(values["model"][name]),
            truth=mean_of(values["truth"][name]),
            controls={kind: mean_of(values[kind][name]) for kind in controls},
        )
        for name, (meaning, controls) in OF_CLIPS.items()
    ]


def clip_values(shown: Shown) -> dict[str, list[float]]:
    """The values of ``OF_CLIPS``, of each clip."""
    clips = list(zip(shown.videos, shown.scenes, strict=True))
    readings = [read(video, shown.fps, shown.part, it.seconds) for video, it in clips]
    return {
        "off course": [off_course(reading, it, shown.fps) for reading, (_, it) in zip(readings, clips, strict=True)],
        "colour drift": [colour_drift(reading) for reading in readings],
        "flicker": [ground_flicker(video) for video, _ in clips],
    }


def set_measures(model: Shown, true: Shown) -> list[Measure]:
    """What can be said of many clips together, by the features of version ``VERSION``."""
    net, (frames, height, width) = shipped(), true.videos.shape[2:]
    seen_of = partial(_seen, part=true.part, shape=(frames, height, width), fps=true.fps)
    reference = seen_of("held_out", REFERENCE, len(true.videos))
    training = seen_of("train", 0, TRAINING_CLIPS)
    seen = {
        "model": net.see(model.videos),
        "truth": net.see(true.videos),
        "first frame frozen": net.see(frozen(true.videos)),
        "frames shuffled": net.see(disordered(true.videos)),
    }
    measures = []
    for name, distance in (("Fréchet distance", frechet), ("kernel distance", kernel)):
        found = {kind: halves(distance, rows, reference) for kind, rows in seen.items()}
        measures.append(
            Measure(
                name=name,
                meaning=f"to as many true clips, by this project's features, version {VERSION}; no FVD",
                better="less",
                model=found.pop("model"),
                truth=found.pop("truth"),
                controls=found,
            )
        )
    measures.append(
        Measure(
            name="distance from training",
            meaning=f"to the nearest of {TRAINING_CLIPS} training clips, by the same features; less than true clips: copies",
            better="more",
            model=mean_of(nearest(seen["model"], training)),
            truth=mean_of(nearest(seen["truth"], training)),
            controls={"training clips": mean_of(nearest(training[: len(reference)], training))},
        )
    )
    return measures


def spoilt(true: Shown) -> dict[str, Shown]:
    """True clips made wrong in one way each."""
    others = Shown(videos=true.videos, scenes=[*true.scenes[1:], true.scenes[0]], fps=true.fps, part=true.part)
    return {
        "first frame frozen": true.with_videos(frozen(true.videos)),
        "captions shuffled": others,
        "last frame paler": true.with_videos(paler(true.videos)),
        "every other frame brighter": true.with_videos(flickering(true.videos)),
    }


def frozen(videos: Video) -> Video:
    """First frames, standing still."""
    return videos[:, :, :1].expand_as(videos)


def disordered(videos: Video) -> Video:
    """The same frames in another order, one for all clips."""
    return videos[:, :, torch.randperm(videos.shape[2], generator=torch.Generator().manual_seed(0))]


def paler(videos: Video) -> Video:
    """Clips whose last frame has lost half of its contrast."""
    return torch.cat([videos[:, :, :-1], videos[:, :, -1:] / 2], dim=2)


def flickering(videos: Video) -> Video:
    """Clips whose every other frame is 2 % nearer to white."""
    share = 0.02 * (torch.arange(videos.shape[2]) % 2)[:, None, None]
    return videos.lerp(torch.ones(()), share)


@lru_cache(maxsize=8)  # models that are compared are often of one size
def _seen(
    split: Literal["train", "held_out"], first: int, count: int, *, part: Part, shape: tuple[int, int, int], fps: float
) -> Float[Tensor, "n f"]:
    """The features of true clips, by the numbers of their scenes."""
    scenes = [scene(number, part, split, seconds=shape[0] / fps) for number in range(first, first + count)]
    return shipped().see(torch.stack([render(one, *shape, fps) for one in scenes]))
