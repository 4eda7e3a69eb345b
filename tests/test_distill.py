"""Distillation against a Gaussian, for which what several steps of DDIM do together is known in closed form."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from test_stage import Formula, batch, stage, video

from noisereel.conditioning import LowRes
from noisereel.diffusion.guidance import cfg, oscillate, thresholded
from noisereel.diffusion.process import Diffusion
from noisereel.diffusion.samplers import ddim
from noisereel.diffusion.schedules import Cosine, Rectified
from noisereel.diffusion.times import ladder, like, truncated_snr
from noisereel.distill import Distillation, distilled, guided, guides, ladder_of, rounds
from noisereel.stage import Stage
from noisereel.types import Cond, Denoiser, Level, Time, Video, generators, randn

SPREAD = 0.7  # standard deviation of the data
SCHEDULES = [Cosine(), Rectified()]


def believed(level: Level) -> torch.Tensor:
    """The best estimate of x0, as a share of x: the data is Gaussian."""
    return level.alpha * SPREAD**2 / (level.alpha**2 * SPREAD**2 + level.sigma**2)


def gaussian(schedule) -> Denoiser:
    return lambda x, t: believed(schedule(t.double()))[:, None, None, None, None] * x


def noise(count: int) -> Video:
    return randn(generators(1, range(count)), 3, 2, 4, 4).double()


def teacher(schedule, steps: int = 8, **changes) -> Stage:
    """A stage whose network, which predicts the clean video, knows the data."""
    net = Formula(lambda x, t, cond: gaussian(schedule)(x, t))
    diffusion = Diffusion(schedule=schedule, predicts="x0")
    return replace(stage(lambda x, t, cond: x), net=net, diffusion=diffusion, sampler=ddim(), steps=steps, **changes)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("ratio", [1, 2, 4])
def test_one_step_of_the_student_is_several_of_the_teacher(schedule, ratio: int) -> None:
    old = teacher(schedule)
    new = Distillation(teacher=old, student=distilled(old, 8 // ratio))
    assert new.ratio == ratio
    x = noise(2)
    for step in range(8 // ratio):
        at = torch.full((2,), ratio * step)
        wanted = new.target(gaussian(schedule), x, at)
        rungs = ladder_of(old)
        z = x
        for here in range(ratio * step, ratio * step + ratio):
            now, there = (Level(alpha=rungs.level.alpha[i], sigma=rungs.level.sigma[i]) for i in (here, here + 1))
            clean = gaussian(schedule)(z, rungs.t[here].expand(2))
            z = there.alpha * clean + there.sigma * (z - now.alpha * clean) / now.sigma
        now = Level(alpha=rungs.level.alpha[ratio * step], sigma=rungs.level.sigma[ratio * step])
        one = there.alpha * wanted + there.sigma * (x - now.alpha * wanted) / now.sigma
        torch.testing.assert_close(one, z, rtol=1e-6, atol=1e-6)
        if ratio == 1:
            torch.testing.assert_close(wanted, clean)


def composed(schedule, steps: int) -> dict[float, float]:
    """For each of so many steps, the share of x that two half steps of the teacher make a student believe in."""
    rungs, shares = ladder(schedule, 2 * steps), {}
    factors = []
    for here, there in pairwise(range(2 * steps + 1)):
        now, then = (Level(alpha=rungs.level.alpha[i], sigma=rungs.level.sigma[i]) for i in (here, there))
        share = believed(schedule(rungs.t[here]))
        factors.append(then.alpha * share + then.sigma * (1 - now.alpha * share) / now.sigma)
    for step in range(steps):
        now, then = (Level(alpha=rungs.level.alpha[2 * i], sigma=rungs.level.sigma[2 * i]) for i in (step, step + 1))
        back = then.sigma / now.sigma
        share = (factors[2 * step] * factors[2 * step + 1] - back) / (then.alpha - back * now.alpha)
        shares[round(float(rungs.t[2 * step]), 6)] = float(share)
    return shares


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_closed_form_student_has_no_loss_and_its_teacher_has(schedule) -> None:
    shares = composed(schedule, 4)

    def student(x: Video, t: Time, cond: Cond) -> Video:
        return torch.tensor([shares[round(float(time), 6)] for time in t])[:, None, None, None, None] * x

    old = teacher(schedule)
    new = Distillation(teacher=old, student=replace(distilled(old, 4), net=Formula(student)))
    clips, rng = batch(video(16)), generators(0, range(16))
    assert new.loss(clips, rng).total < 1e-9
    assert replace(new, student=distilled(old, 4)).loss(clips, generators(0, range(16))).total > 1e-4
    assert set(new.validate(clips, generators(0, range(16)))) == {"error@step1", "error@step2", "error@step4"}
    # And so it samples in four steps what the teacher samples in eight.
    ours, theirs = (list(one.sample([None], None, generators(3, [0])))[-1].x for one in (new.student, old))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("predicts", ["x0", "v", "flow"])
def test_what_an_error_weighs(predicts) -> None:
    schedule = Cosine()
    old = replace(teacher(schedule, 4), diffusion=Diffusion(schedule=schedule, predicts="x0"))
    off = 0.1  # of the clean video

    def student(x: Video, t: Time, cond: Cond) -> Video:
        level = schedule(t.double())
        alpha, sigma = (part[:, None, None, None, None] for part in (level.alpha, level.sigma))
        clean = gaussian(schedule)(x, t) + off
        eps = (x - alpha * clean) / sigma
        return {"x0": clean, "v": alpha * eps - sigma * clean, "flow": eps - clean}[predicts].float()

    diffusion = Diffusion(schedule=schedule, predicts=predicts)
    new = Distillation(teacher=old, student=replace(distilled(old, 4), net=Formula(student), diffusion=diffusion))
    step = torch.arange(4)
    snr = schedule(ladder(schedule, 4).t[:-1]).snr.float()
    clips = batch(video(4))
    rated = {truncated_snr: snr.clamp(min=1), like("v", limit=1e9): snr + 1, like("x0"): torch.ones(4)}
    for weight, wanted in rated.items():
        found = replace(new, weight=weight).error(clips, step, generators(0, range(4)))
        torch.testing.assert_close(found, wanted * off**2, rtol=1e-2, atol=1e-4)


def test_guidance_is_part_of_what_is_learned_and_is_then_free() -> None:
    shout = lambda x, t, cond: cond.text.pooled[:, :, None, None, None]  # noqa: E731
    old = replace(teacher(Cosine(), 4), net=Formula(shout), guide=cfg(3.0))
    assert guides(old)
    first, *halved = list(rounds(old, 2))
    assert [(one.teacher.steps, one.student.steps) for one in (first, *halved)] == [(4, 4), (4, 2)]
    x = noise(2).float()
    cond = Cond(text=old.text(["word", "longer"]))
    torch.testing.assert_close(
        guided(old, cond)(x, torch.tensor([0.5, 0.7])).mean((1, 2, 3, 4)), torch.tensor([1.2, 1.8])
    )  # 3 * 0.4, 3 * 0.6: nothing is said without a caption
    student = halved[-1].student
    student.net.asked.clear()
    list(student.sample(["word"], None, generators(0, [0])))
    assert len(student.net.asked) == 2, "one pass a step"


def test_rounds_halve_down_from_the_next_power() -> None:
    def steps(own: int, few: int, **changes) -> list[int]:
        return [one.student.steps for one in rounds(teacher(Cosine(), own, **changes), few)]

    assert steps(32, 8) == [16, 8]
    assert steps(24, 8) == [16, 8]
    assert steps(24, 8, guide=cfg(2.0)) == [32, 16, 8]
    assert steps(8, 8) == []
    assert steps(8, 8, guide=thresholded(cfg(1.0))) == []
    assert steps(8, 8, guide=oscillate(4.0, 1.0, 0, ladder(Cosine(), 8))) == [8]
    made = list(rounds(teacher(Cosine(), 32), 8))
    assert made[1].teacher is made[0].student
    assert made[1].student.net is not made[0].student.net


def test_ladders_that_do_not_fit_are_refused() -> None:
    old = teacher(Cosine(), 8)
    with pytest.raises(ValueError, match="3 steps cannot each stand for some of 8"):
        Distillation(teacher=old, student=distilled(old, 3))


def test_only_the_student_s_network_learns() -> None:
    old = teacher(Cosine(), 8, given=LowRes(size=(4, 8, 8), space=2))
    (one, *_) = rounds(old, 4)
    assert list(one.parts()) == ["unet"]
    assert one.parameter_groups()[0]["params"] == list(one.student.net.parameters())
    loss = one.loss(batch(video(4)), generators(0, range(4))).total
    loss.backward()
    assert one.student.net.weight.grad is not None
    assert one.teacher.net.weight.grad is None


def test_a_stage_that_holds_known_frames_is_distilled_with_them() -> None:
    seen: list[tuple[Video, Time]] = []

    def watch(x: Video, t: Time, cond: Cond) -> Video:
        seen.append((x.detach(), t))
        return x * 0.5

    old = replace(teacher(Cosine(), 4), net=Formula(watch), prefixes=1.0)
    new = Distillation(teacher=old, student=replace(distilled(old, 2), net=Formula(watch)))
    clips = batch(video(8))
    assert torch.isfinite(new.loss(clips, generators(0, range(8))).total)
    for x, t in seen:
        known = t == 0
        assert known[:, 0].all(), "the first frame at least"
        assert not known[:, -1].any()
        frames = known[:, None, :, None, None].expand_as(x)
        assert torch.equal(x[frames], clips.video[frames])
