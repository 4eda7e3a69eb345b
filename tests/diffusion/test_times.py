import pytest
import torch
from scipy import stats

from noisereel.diffusion.schedules import Cosine, LinearBeta, Rectified, Schedule
from noisereel.diffusion.targets import PREDICTS, Predicts, clean_weight
from noisereel.diffusion.times import at_times, ladder, like, logit_normal, min_snr, one, stratified, truncated_snr, uniform
from noisereel.types import generators


def test_uniform_is_uniform() -> None:
    assert stats.kstest(uniform(generators(0, range(2000))).numpy(), "uniform").pvalue > 0.01


def test_logit_normal_is_logit_normal() -> None:
    t = logit_normal(-0.5, 1.3)(generators(0, range(2000)))
    assert stats.kstest(torch.logit(t).numpy(), "norm", args=(-0.5, 1.3)).pvalue > 0.01


@pytest.mark.parametrize("count", [1, 7, 16])
def test_stratified_visits_every_interval_once(count: int) -> None:
    for seed in range(20):
        t = stratified(generators(seed, range(count)))
        assert sorted((t * count).long().tolist()) == list(range(count))


def test_stratified_shows_every_time_to_every_place() -> None:
    last = torch.stack([stratified(generators(seed, range(4)))[3] for seed in range(1000)])
    assert stats.kstest(last.numpy(), "uniform").pvalue > 0.01


@pytest.mark.parametrize("draw", [uniform, logit_normal()])
def test_times_belong_to_the_sample(draw) -> None:
    assert torch.equal(draw(generators(0, range(5)))[3:], draw(generators(0, [3, 4])))


LEVEL = Cosine()(torch.linspace(0, 1, 33, dtype=torch.float64))


@pytest.mark.parametrize("predicts", list(PREDICTS))
def test_weights_mean_the_same_whatever_is_predicted(predicts: Predicts) -> None:
    snr = LEVEL.snr
    native = clean_weight(LEVEL, predicts)
    torch.testing.assert_close(min_snr(5.0)(LEVEL, predicts) * native, snr.clamp(max=5))
    torch.testing.assert_close(truncated_snr(LEVEL, predicts) * native, snr.clamp(min=1))
    torch.testing.assert_close(like("v", limit=1e20)(LEVEL, predicts) * native, snr + 1)
    assert torch.equal(one(LEVEL, predicts), torch.ones_like(snr))


def test_min_snr_is_the_three_forms_of_the_paper() -> None:
    snr = LEVEL.snr
    torch.testing.assert_close(min_snr(5.0)(LEVEL, "x0"), snr.clamp(max=5))
    torch.testing.assert_close(min_snr(5.0)(LEVEL, "eps"), snr.clamp(max=5) / snr)
    torch.testing.assert_close(min_snr(5.0)(LEVEL, "v"), snr.clamp(max=5) / (snr + 1))


@pytest.mark.parametrize("weight", [one, min_snr(5.0), truncated_snr, like("v"), like("flow"), like("x0")])
@pytest.mark.parametrize("predicts", list(PREDICTS))
def test_weights_are_finite_at_the_ends(weight, predicts: Predicts) -> None:
    ends = Rectified()(torch.tensor([0.0, 1.0]))
    assert weight(ends, predicts).isfinite().all()


def test_like_stops_growing_towards_clean() -> None:
    weight = like("flow")(Rectified()(torch.tensor([0.0, 0.01, 0.05, 0.5])), "x0")
    torch.testing.assert_close(weight, torch.tensor([400.0, 400.0, 400.0, 4.0]))
    assert torch.equal(like("x0")(LEVEL, "x0"), torch.ones_like(LEVEL.alpha))


SPACINGS = ["time", "trailing", "leading", "log_snr"]


@pytest.mark.parametrize("schedule", [Cosine(), LinearBeta(), LinearBeta(zero_terminal=True), Rectified(shift=-3.0)])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 2, 30])
def test_ladder_leads_down_to_clean(schedule: Schedule, spacing: str, steps: int) -> None:
    rungs = ladder(schedule, steps, spacing)
    assert len(rungs.t) == steps + 1
    assert (rungs.t.diff() < 0).all()
    assert rungs.t[-1] == 0
    assert (rungs.level.alpha[-1], rungs.level.sigma[-1]) == (1, 0)
    assert rungs.t[0] == 1 or spacing == "leading"
    torch.testing.assert_close(rungs.level.alpha[:-1], schedule(rungs.t[:-1]).alpha)


def test_spacings_are_the_timesteps_of_discrete_models() -> None:
    def timesteps(spacing: str, steps: int) -> list[int]:
        return (1000 * ladder(LinearBeta(), steps, spacing).t[:-1] - 1).round().int().tolist()

    assert timesteps("trailing", 50) == list(range(999, 0, -20))
    assert timesteps("leading", 50) == list(range(981, 0, -20))


def test_log_snr_spacing_is_even_in_log_snr() -> None:
    for schedule in (Cosine(), Rectified()):
        gaps = schedule(ladder(schedule, 20, "log_snr").t[1:-1]).log_snr.diff()
        torch.testing.assert_close(gaps, gaps[:1].expand_as(gaps), rtol=1e-9, atol=0)


def test_ladders_that_lead_nowhere_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ladder(Cosine(), 0)
    with pytest.raises(ValueError, match="must fall"):
        at_times(Cosine(), torch.tensor([0.0, 0.5, 1.0]))
