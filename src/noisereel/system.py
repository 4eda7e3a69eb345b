"""A text-to-video system: an ordered list of stages, each given the video of the one before. One model is a cascade of one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from noisereel.conditioning import spread as spread
from noisereel.stage import Stage, legal
from noisereel.types import Latent, Rng, Step, Text, Video


class DecodingError(RuntimeError):
    """A stage has sampled but could not decode; its cause says why, and ``latent`` is what would otherwise be lost."""

    def __init__(self, stage: str, latent: Latent) -> None:
        super().__init__(f"what stage {stage!r} sampled could not be decoded; this error's latent holds it")
        self.stage, self.latent = stage, latent


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What ``System.sample`` yields: a step of one stage, and that stage's finished video with its last step."""

    stage: str
    number: int  # of the stage, from 0
    stages: int
    step: Step
    video: Video | None = None  # in [-1, 1]


@dataclass(frozen=True, kw_only=True, eq=False)
class System:
    """Stages by name, in the order they run."""

    stages: Mapping[str, Stage]

    def sample(
        self, prompts: Sequence[str | None], rng: Rng, *, video: Video | None = None, **options: Any
    ) -> Iterator[Moment]:
        """Run every stage for every prompt; the last moment's ``video`` is the result, (b 3 t h w) in [-1, 1].

        ``options`` (shape, negative, noise, known: see ``Stage.sample``) go to the first stage, ``negative`` to all. A
        ``video`` takes the place of what the first stage would make, such as a longer one that ``extend`` made with it.

        Raises:
            ValueError: what ``Stage.sample`` refuses, or latents that are not finite.
            DecodingError: latents that are whole could not be decoded.
        """
        begun = video is not None
        told: dict[int, tuple[Text, Text]] = {}  # stages that share a text encoder are told the same
        for number, (name, stage) in list(enumerate(self.stages.items()))[begun:]:
            if id(stage.text) not in told:
                told[id(stage.text)] = stage.read(prompts, options.get("negative"), rng)
            for step in stage.sample(prompts, video, rng, told=told[id(stage.text)], **(options if number == 0 else {})):
                done = step.index == step.total - 1
                video = self._decoded(name, step.x) if done else None
                yield Moment(stage=name, number=number, stages=len(self.stages), step=step, video=video)

    def extend(
        self, video: Video, prompts: Sequence[str | None], rng: Rng, *, frames: int, keep: int, **options: Any
    ) -> Iterator[Moment]:
        """Make ``video`` ``frames`` long: again and again its last ``keep`` frames are known and the rest is sampled.

        Autoregressive extension by reconstruction guidance (VDM, section 3.1), or by a network that is told what is known.
        The last moment's ``video`` is the whole.

        Raises:
            ValueError: several stages; ``keep`` is not between 1 and one less than the length the first stage makes, or its
                codec compresses time and would hold some of the frames in a latent frame with unknown ones.
        """
        self._refuse_others("go on from")
        length, codec = self.first.shape[0], self.first.codec
        if not 1 <= keep < length:
            raise ValueError(f"extension keeps between 1 and {length - 1} frames of {length}, not {keep}")
        keep = min(keep, video.shape[2])
        if (keep - codec.lead) % codec.stride[0]:
            raise ValueError(f"this model cannot go on from {keep} frames: it takes {legal(keep, codec.stride[0], codec.lead)}")
        while video.shape[2] < frames:
            known = spread(video[:, :, -keep:], length, every=1)
            for moment in self.sample(prompts, rng, known=known, shape=tuple(known.video.shape[2:]), **options):
                if moment.video is not None:
                    video = torch.cat([video, moment.video[:, :, keep:].to(video)], dim=2)[:, :, :frames]
                    moment = replace(moment, video=video)
                yield moment

    def between(self, video: Video, prompts: Sequence[str | None], rng: Rng, *, every: int, **options: Any) -> Iterator[Moment]:
        """Fill in ``every - 1`` frames between each two of ``video``, as many at a time as the first stage makes.

        Interpolation by reconstruction guidance (VDM, section 3.1), or by a network that is told what is known. The last
        moment's ``video`` is the whole, in which every ``every``-th frame is the given one.

        Raises:
            ValueError: several stages; fewer than two frames, or so many to fill that the first stage's length does not hold
                two known ones; or a codec that compresses time, in whose latents single frames cannot be known.
        """
        self._refuse_others("fill in between the frames of")
        if (held := self.first.codec.stride[0]) > 1:
            raise ValueError(f"this model holds {held} frames in each of its latents and cannot fill in between single ones")
        length, count = self.first.shape[0], video.shape[2]
        held = (length - 1) // every + 1 if every >= 2 else 0  # known frames in what is made at once
        if count < 2 or held < 2:
            raise ValueError(f"{every - 1} frames between each two of {count}: give 2 frames or more, and 1 to {length - 2}")
        whole = video[:, :, :1]
        for start in range(0, count - 1, held - 1):
            given = video[:, :, start : start + held]
            known = spread(given, length, every)
            for moment in self.sample(prompts, rng, known=known, shape=tuple(known.video.shape[2:]), **options):
                if moment.video is not None:
                    filled = torch.where(known.frames[:, None, None].to(video.device), known.video, moment.video.to(video))
                    whole = torch.cat([whole, filled[:, :, 1 : (given.shape[2] - 1) * every + 1]], dim=2)
                    moment = replace(moment, video=whole)
                yield moment

    def _refuse_others(self, what: str) -> None:
        if len(self.stages) > 1:
            raise ValueError(f"a model of {len(self.stages)} stages cannot {what} a finished video: its first stage alone can")

    def _decoded(self, name: str, latent: Latent) -> Video:
        try:
            return self.stages[name].decode(latent)
        except Exception as error:
            if not bool(torch.isfinite(latent).all()):  # not worth keeping
                raise
            raise DecodingError(name, latent) from error

    @property
    def first(self) -> Stage:
        """The stage that starts from text alone."""
        return next(iter(self.stages.values()))

    @property
    def last(self) -> Stage:
        """The stage whose video is the result."""
        return list(self.stages.values())[-1]

    def with_options(self, **changes: Any) -> System:
        """The same weights, every stage sampled another way: ``system.with_options(steps=20)``."""
        return System(stages={name: replace(stage, **changes) for name, stage in self.stages.items()})

    def sampled_like(self, other: System) -> System:
        """The same weights, each stage with the steps and the guidance of its namesake."""
        pairs = {name: (stage, other.stages[name]) for name, stage in self.stages.items()}
        return System(stages={name: replace(own, steps=its.steps, guide=its.guide) for name, (own, its) in pairs.items()})

    def parts(self) -> dict[str, nn.Module]:
        """The modules that hold weights, by checkpoint folder: ``<stage>_<name>``, or the plain name where stages share one."""
        found = [(name, part, module) for name, stage in self.stages.items() for part, module in stage.parts().items()]
        shared = {part for _, part, _ in found if len({id(module) for _, other, module in found if other == part}) == 1}
        parts: dict[str, nn.Module] = {}
        for name, part, module in found:
            if not any(module is other for other in parts.values()):
                parts[part if part in shared else f"{name}_{part}"] = module
        return parts
