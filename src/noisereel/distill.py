"""Progressive distillation: a network learns to take in one step what its teacher takes in several.

First guidance is distilled, one step for one of the guided teacher (Meng et al. 2022); then the steps of DDIM are halved again
and again, each student the next one's teacher (Salimans and Ho 2022; Imagen Video, section 2.7).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from noisereel.conditioning import some_first
from noisereel.diffusion.guidance import cfg
from noisereel.diffusion.samplers import ddim
from noisereel.diffusion.schedules import spread
from noisereel.diffusion.targets import PREDICTS
from noisereel.diffusion.times import Ladder, Weight, truncated_snr
from noisereel.stage import Stage
from noisereel.types import Batch, Cond, Denoiser, Latent, Level, Loss, Rng, Time, Times, Video, rand, randn

Known = Bool[Tensor, "b t"] | None  # frames that are shown as they are
Rungs = Int[Tensor, "b"]  # the rung of the teacher's ladder that each sample stands on


@dataclass(frozen=True, kw_only=True, eq=False)
class Distillation:
    """A student that is trained to reach with each step of DDIM what its teacher, guidance included, reaches with a few.

    The clean video's error counts max(SNR, 1) by default: ``diffusion.times.like("v")`` makes it SNR + 1.

    Raises:
        ValueError: the student's ladder is not every so-many-th rung of the teacher's.
    """

    student: Stage
    teacher: Stage
    weight: Weight = truncated_snr

    def __post_init__(self) -> None:
        few, many = (ladder_of(stage) for stage in (self.student, self.teacher))
        if self.teacher.steps % self.student.steps or not torch.allclose(few.t, many.t[:: self.ratio]):
            raise ValueError(f"{self.student.steps} steps cannot each stand for some of {self.teacher.steps} on this ladder")

    @property
    def ratio(self) -> int:
        """How many of the teacher's steps one of the student's stands for."""
        return self.teacher.steps // self.student.steps

    def loss(self, batch: Batch, rng: Rng) -> Loss:
        """How far the student is from its teacher, each sample at a step of its own."""
        step = (rand(rng) * self.student.steps).long()
        return Loss(total=self.error(batch, step, rng).mean())

    def validate(self, batch: Batch, rng: Rng) -> dict[str, float]:
        """The same on held-out clips, at the first step, one in the middle, and the last."""
        last = self.student.steps - 1
        steps = {f"error@step{step + 1}": torch.full((len(rng),), step) for step in sorted({0, last // 2, last})}
        with torch.no_grad():
            return {name: float(self.error(batch, step, rng).mean()) for name, step in steps.items()}

    def preview(self, prompts: Sequence[str], rng: Rng) -> Video:
        """One video for each prompt, as the student makes it."""
        return self.student.preview(prompts, rng)

    def parts(self) -> dict[str, nn.Module]:
        """The student's network; all else it shares with its teacher."""
        net: Any = self.student.net
        return {name: part for name, part in self.student.parts().items() if part is net}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All of it."""
        return [{"params": [parameter for part in self.parts().values() for parameter in part.parameters()]}]

    def error(self, batch: Batch, step: Rungs, rng: Rng) -> Float[Tensor, "b"]:
        """The weighted squared error of each sample at its ``step`` of the student's."""
        diffusion, rungs, at = self.student.diffusion, ladder_of(self.teacher), step * self.ratio
        with torch.no_grad():
            x0, cond = self.student.shown(batch, rng)
            known = self._known(x0, cond, rng)
            here, t = spread(level_at(rungs, at, x0)), rungs.t[at].to(x0)
            x = here.alpha * x0 + here.sigma * randn(rng, *x0.shape[1:]).to(x0)
            clean = self.target(holding(guided(self.teacher, cond), x0, known), x, at)
        x, times = shown_known(x, t, x0, known)
        out = self.student.net(x, diffusion.tell(times), cond)
        a, b = PREDICTS[diffusion.predicts](here)
        wanted = a * clean + b * (x - here.alpha * clean) / here.sigma
        asked = torch.ones_like(x0[:, :1, :, :1, :1]) if known is None else frames(~known).to(x0)
        errors = reduce(asked * (out.float() - wanted) ** 2, "b c t h w -> b", "mean") / asked.flatten(1).mean(1)
        return self.weight(level_at(rungs, at, x0), diffusion.predicts) * errors

    def target(self, denoiser: Denoiser, x: Latent, at: Rungs) -> Latent:
        """What the student must believe in at ``x`` so that one step of DDIM takes it where the teacher's steps lead."""
        rungs, z = ladder_of(self.teacher), x
        here = spread(level_at(rungs, at, x))
        for rung in range(self.ratio):
            now, there = (spread(level_at(rungs, at + rung + more, x)) for more in (0, 1))
            clean = denoiser(z, rungs.t[at + rung].to(x))
            z = there.alpha * clean + there.sigma * (z - now.alpha * clean) / now.sigma
        # Salimans and Ho 2022, algorithm 2: the one x0 that DDIM would need to go from x to z.
        share = there.sigma / here.sigma
        return (z - share * x) / (there.alpha - share * here.alpha)

    def _known(self, x0: Latent, cond: Cond, rng: Rng) -> Known:
        """Frames that a student must be able to go on from, if its teacher is."""
        rate = self.student.prefixes
        return some_first(x0.shape[2], cond.groups, rate, rng).to(x0.device) if rate else None


def rounds(stage: Stage, steps: int) -> Iterator[Distillation]:
    """The distillations that bring a stage down to so many ``steps``: train each before asking for the next.

    The first teacher takes the stage's own steps, or the next larger number that halves down to ``steps``.
    """
    most = steps
    while most < stage.steps:
        most *= 2
    teacher = replace(stage, steps=most, sampler=ddim())
    if guides(teacher):
        counts = [most]
    else:
        counts, teacher = [], distilled(teacher, most)
    while most > steps:
        most //= 2
        counts.append(most)
    for count in counts:
        student = replace(distilled(teacher, count), net=deepcopy(teacher.net))
        assert isinstance(teacher.net, nn.Module)
        teacher.net.eval()
        yield Distillation(student=student, teacher=teacher)
        teacher = student


def distilled(stage: Stage, steps: int) -> Stage:
    """The stage sampled as one that was distilled: so many steps of DDIM, without guidance."""
    return replace(stage, steps=steps, guide=cfg(1.0), sampler=ddim())


def guides(stage: Stage) -> bool:
    """Whether sampling ever asks the network what it would do without the caption."""
    asked = False

    def null(x: Video, t: Times) -> Video:
        nonlocal asked
        asked = True
        return x

    denoiser, nothing = stage.guide(lambda x, t: x, null), torch.zeros(1, 1, 1, 1, 1)
    for t in ladder_of(stage).t[:-1]:
        denoiser(nothing, t.float()[None])
    return asked


def guided(stage: Stage, cond: Cond) -> Denoiser:
    """What the stage's sampler would see of its network under these conditions."""
    clips = 0 if cond.text is None else len(cond.text.mask)
    without = replace(cond, text=stage.text([None] * clips))
    return stage.guide(*(stage.diffusion.denoiser(stage.net, told) for told in (cond, without)))


def ladder_of(stage: Stage) -> Ladder:
    """The rungs that the stage's sampling climbs down."""
    return stage.rungs(stage.diffusion.schedule, stage.steps)


def level_at(rungs: Ladder, at: Rungs, like: Tensor) -> Level:
    """The level of each sample."""
    return Level(alpha=rungs.level.alpha[at].to(like), sigma=rungs.level.sigma[at].to(like))


def frames(mask: Bool[Tensor, "b t"]) -> Bool[Tensor, "b 1 t 1 1"]:
    """A mask of frames, shaped to choose from a video."""
    return rearrange(mask, "b t -> b 1 t 1 1")


def shown_known(x: Latent, t: Time, x0: Latent, known: Known) -> tuple[Latent, Times]:
    """A noisy video and its time; frames that are known are shown as they are, at time 0."""
    if known is None:
        return x, t
    return torch.where(frames(known), x0, x), t[:, None].masked_fill(known, 0)


def holding(denoiser: Denoiser, x0: Latent, known: Known) -> Denoiser:
    """A denoiser that is shown the known frames of each sample."""
    return lambda x, t: denoiser(*shown_known(x, t, x0, known))
