import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from noisereel.diffusion.process import Diffusion
from noisereel.diffusion.samplers import Sampler, ancestral, ddim, dpmpp_2m, dpmpp_2m_sde, heun, overshoot, unipc
from noisereel.diffusion.schedules import Cosine, LinearBeta, Rectified, Schedule, flow_shift
from noisereel.diffusion.times import Ladder, at_times, ladder
from noisereel.types import Cond, Denoiser, Level, Time, Video, generators, randn

DETERMINISTIC: dict[str, Sampler] = {"ddim": ddim(), "heun": heun(), "dpmpp_2m": dpmpp_2m(), "unipc": unipc()}
RANDOM: dict[str, Sampler] = {
    "ancestral": ancestral(),
    "ancestral, large": ancestral(gamma=1.0),
    "ancestral, corrected": ancestral(gamma=0.1, corrector=True),
    "ddim, eta 1": ddim(eta=1.0),
    "dpmpp_2m_sde": dpmpp_2m_sde(),
}
SAMPLERS = DETERMINISTIC | RANDOM
SCHEDULES = [Cosine(), LinearBeta(), LinearBeta(scaled=True, zero_terminal=True), Rectified(), Rectified(shift=flow_shift(5.0))]

MEAN, STD = 0.3, 0.6  # of the data of the closed-form denoiser


def run(sampler: Sampler, denoiser: Denoiser, x: Video, rungs: Ladder, seed: int = 0) -> Video:
    *_, last = sampler(denoiser, x, rungs, generators(seed, range(len(x))))
    return last.x


def gaussian(schedule: Schedule) -> Denoiser:
    """E[x0 | x] for independent N(MEAN, STD**2) data."""

    def denoise(x: Video, t: Time) -> Video:
        level = schedule(t[:1])
        alpha, sigma = level.alpha, level.sigma
        return MEAN + STD**2 * alpha / (alpha**2 * STD**2 + sigma**2) * (x - alpha * MEAN)

    return denoise


def flow_of_gaussian(x: Video, level: Level) -> Video:
    """Where the probability flow takes ``x`` from the first to the last rung: its quantile is kept."""
    spread = (level.alpha**2 * STD**2 + level.sigma**2).sqrt()
    return level.alpha[-1] * MEAN + spread[-1] / spread[0] * (x - level.alpha[0] * MEAN)


def start(count: int, *shape: int) -> Tensor:
    return randn(generators(1, range(count)), *(shape or (2, 3, 4, 4)))


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_perfect_denoiser_gives_the_video(name: str, schedule: Schedule, steps: int) -> None:
    x0 = start(2) / 3
    assert torch.equal(run(SAMPLERS[name], lambda x, t: x0, start(2), ladder(schedule, steps)), x0)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_steps_from_no_signal_are_finite_and_on_the_path(name: str, schedule: Schedule) -> None:
    """With a perfect denoiser what is left between is noise of the right size, also after the step from alpha = 0."""
    x0 = start(2, 1, 8, 32, 32) / 3
    noise = start(2, 1, 8, 32, 32).flip(0)
    for step in SAMPLERS[name](lambda x, t: x0, noise, ladder(schedule, 6), generators(5, range(2))):
        assert step.x.isfinite().all()
        level = schedule(torch.tensor([step.t]))
        if step.t > 0:
            size = ((step.x - level.alpha * x0) / level.sigma).std().item()
            assert size == pytest.approx(1, abs=0.08) or (size > 1 and name == "ancestral, large")


@pytest.mark.parametrize(("name", "order"), [("ddim", 1), ("heun", 2), ("dpmpp_2m", 2), ("unipc", 2)])
@pytest.mark.parametrize("schedule", [Cosine(), LinearBeta(), Rectified()])
def test_order_of_convergence(name: str, order: int, schedule: Schedule) -> None:
    x = torch.linspace(-2, 2, 5, dtype=torch.float64).view(5, 1, 1, 1, 1)
    errors = []
    for steps in (80, 160, 320):
        rungs = at_times(schedule, torch.linspace(0.9, 0.1, steps + 1, dtype=torch.float64))
        error = run(DETERMINISTIC[name], gaussian(schedule), x, rungs) - flow_of_gaussian(x, rungs.level)
        errors.append(error.abs().max().item())
    measured = [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]
    # UniPC's corrector makes it one order better than its name (Zhao et al. 2023).
    assert all(order - 0.25 < value < order + (1.15 if name == "unipc" else 0.25) for value in measured), measured


@pytest.mark.parametrize("name", DETERMINISTIC)
@pytest.mark.parametrize("schedule", [Cosine(), Rectified(), LinearBeta(zero_terminal=True)])
def test_deterministic_samplers_reach_the_data_from_noise(name: str, schedule: Schedule) -> None:
    x = torch.linspace(-2, 2, 5, dtype=torch.float64).view(5, 1, 1, 1, 1)
    tolerance = 0.06 if name == "ddim" else 0.01
    expected = MEAN + STD * x
    found = run(DETERMINISTIC[name], gaussian(schedule), x, ladder(schedule, 100))
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", ["ancestral", "ancestral, large", "dpmpp_2m_sde"])
@pytest.mark.parametrize("schedule", [Cosine(), Rectified()])
def test_random_samplers_reach_the_data(name: str, schedule: Schedule) -> None:
    samples = run(RANDOM[name], gaussian(schedule), start(2, 1, 8, 64, 64), ladder(schedule, 256))
    assert samples.mean().item() == pytest.approx(MEAN, abs=0.01)
    assert samples.std().item() == pytest.approx(STD, rel=0.02)


def test_ddim_on_the_straight_line_is_euler() -> None:
    schedule = Rectified(shift=flow_shift(3.0))
    flow = Diffusion(schedule=schedule, predicts="flow")
    rungs = ladder(schedule, 10)
    velocity = lambda x, t, cond: torch.tanh(x) + t[:, None, None, None, None]  # noqa: E731
    x = start(2).double()
    found = run(ddim(), flow.denoiser(lambda x, t, cond: velocity(x, t, cond).double(), Cond()), x, rungs)
    for t, width in zip(rungs.t, rungs.level.sigma.diff(), strict=False):
        x = x + width * velocity(x, x.new_full((2,), t.item()), Cond())
    torch.testing.assert_close(found, x, rtol=0, atol=1e-6)


def one_step(sampler: Sampler, t: float, s: float, schedule: Schedule, seed: int = 0) -> Video:
    rungs = at_times(schedule, torch.tensor([t, s], dtype=torch.float64))
    return run(sampler, lambda x, t: 0.5 * x, start(1).double(), rungs, seed)


@pytest.mark.parametrize(("gamma", "large"), [(0.0, False), (1.0, True)])
def test_gamma_spans_the_variances_of_ddpm(gamma: float, large: bool) -> None:
    schedule = LinearBeta()
    first, second = (one_step(ancestral(gamma=gamma), 0.5, 0.499, schedule, seed) for seed in (0, 1))
    noise = randn(generators(0, [0]), 2, 3, 4, 4) - randn(generators(1, [0]), 2, 3, 4, 4)
    ratio = (first - second) / noise
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    product = (1 - beta).cumprod(0)
    variance = beta[499] if large else beta[499] * (1 - product[498]) / (1 - product[499])
    torch.testing.assert_close(ratio, variance.sqrt().expand_as(ratio), rtol=1e-5, atol=0)


def test_ancestral_mean_is_the_posterior_of_ddpm() -> None:
    schedule = LinearBeta()
    x = one_step(ancestral(), 0.5, 0.499, schedule)
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    product = (1 - beta).cumprod(0)
    now, to, z = product[499], product[498], start(1).double()
    mean = to.sqrt() * beta[499] / (1 - now) * 0.5 * z + (1 - beta[499]).sqrt() * (1 - to) / (1 - now) * z
    noise = (beta[499] * (1 - to) / (1 - now)).sqrt() * randn(generators(0, [0]), 2, 3, 4, 4)
    torch.testing.assert_close(x, mean + noise, rtol=0, atol=1e-6)


def test_ddim_with_eta_one_is_ancestral() -> None:
    for schedule in (Cosine(), Rectified()):
        torch.testing.assert_close(one_step(ddim(eta=1.0), 0.6, 0.4, schedule), one_step(ancestral(), 0.6, 0.4, schedule))


def test_langevin_corrector_settles_at_its_known_variance() -> None:
    """On pure noise each corrector step is z - delta / 2 z + sqrt(delta) n, of stationary variance 1 / (1 - delta / 4)."""
    count, delta = 61, 0.1
    still = Level(alpha=torch.full((count,), 1e-6), sigma=torch.ones(count))
    rungs = Ladder(t=torch.linspace(1, 0.9, count), level=still)  # a predictor that goes nowhere does nothing
    x = run(ancestral(corrector=True, delta=delta), lambda x, t: 1e-6 * x, start(1, 1, 4, 256, 256), rungs)
    assert x.var().item() == pytest.approx(1 / (1 - delta / 4), abs=0.008)


def test_corrector_doubles_the_evaluations_and_heun_too() -> None:
    def evaluations(sampler: Sampler) -> int:
        calls = []
        run(sampler, lambda x, t: calls.append(t) or x, start(1), ladder(Cosine(), 8))
        return len(calls)

    assert [evaluations(sampler) for sampler in (ancestral(), dpmpp_2m(), unipc())] == [8, 8, 8]
    assert [evaluations(sampler) for sampler in (ancestral(corrector=True), heun())] == [15, 15]  # the last step ends at clean


def test_steps_say_where_they_are() -> None:
    rungs = ladder(Rectified(), 4)
    seen: list[Time] = []

    def denoise(x: Video, t: Time) -> Video:
        seen.append(t)
        return 0.5 * x

    steps = list(ddim()(denoise, start(3), rungs, generators(0, range(3))))
    assert [(step.index, step.total, step.t) for step in steps] == [(0, 4, 0.75), (1, 4, 0.5), (2, 4, 0.25), (3, 4, 0.0)]
    assert torch.equal(torch.stack(seen), torch.tensor([[1.0] * 3, [0.75] * 3, [0.5] * 3, [0.25] * 3]))
    assert torch.equal(steps[-1].x, steps[-1].clean)
    assert torch.equal(steps[1].clean, 0.5 * steps[0].x)


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sample_does_not_depend_on_its_batch(name: str) -> None:
    schedule = LinearBeta(zero_terminal=True)
    rungs = ladder(schedule, 7)
    x = start(5)
    *_, whole = SAMPLERS[name](gaussian(schedule), x, rungs, generators(3, range(5)))
    *_, alone = SAMPLERS[name](gaussian(schedule), x[3:4], rungs, generators(3, [3]))
    torch.testing.assert_close(alone.x[0], whole.x[3], rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_the_network_predicts_does_not_matter(name: str) -> None:
    """An eps network and a v network with converted heads go the same way (and x0 too)."""
    schedule = Cosine(log_snr_min=-10.0)
    believed = lambda x, t: torch.tanh(2 * x) * (1 - 0.5 * t[:, None, None, None, None])  # noqa: E731

    def converted(diffusion: Diffusion) -> Callable[[Video, Time, Cond], Video]:
        def net(x: Video, t: Time, cond: Cond) -> Video:
            level = schedule(t)
            alpha, sigma = level.alpha[:, None, None, None, None], level.sigma[:, None, None, None, None]
            return diffusion.target(believed(x, t), (x - alpha * believed(x, t)) / sigma, t)

        return net

    results = []
    for predicts in ("eps", "v", "x0"):
        diffusion = Diffusion(schedule=schedule, predicts=predicts)
        results.append(run(SAMPLERS[name], diffusion.denoiser(converted(diffusion), Cond()), start(2), ladder(schedule, 12)))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=5e-4)
    torch.testing.assert_close(results[2], results[1], rtol=0, atol=5e-4)


def test_eta_is_a_share() -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        ddim(eta=1.5)


def test_sampling_keeps_no_graph() -> None:
    scale = torch.tensor(0.5, requires_grad=True)
    assert not run(heun(), lambda x, t: scale * x, start(1), ladder(Cosine(), 3)).requires_grad


def test_overshooting_keeps_the_spread_of_a_gaussian() -> None:
    """Twice as far and back by noise: the variance of what is sampled comes near the data's as steps grow."""
    spread, schedule = 0.6, Cosine()

    def denoiser(x: Video, t: Time) -> Video:
        level = schedule(t.double())
        share = level.alpha * spread**2 / (level.alpha**2 * spread**2 + level.sigma**2)
        return share.to(x)[:, None, None, None, None] * x

    x = randn(generators(0, range(4)), 1, 4, 32, 32)
    found = {}
    for steps in (32, 64):
        *_, last = overshoot()(denoiser, x, ladder(schedule, steps), generators(1, range(4)))
        found[steps] = abs(float(last.x.std()) - spread)
    assert found[64] < 0.03
    assert 1.8 < found[32] / found[64] < 2.2, "of first order, as DDIM is"
    # From the last rung but one it goes to the end and comes back.
    *_, before, last = overshoot()(denoiser, x, ladder(schedule, 4), generators(1, range(4)))
    rung = ladder(schedule, 4).level
    noise = (before.x - rung.alpha[3].float() * before.clean) / rung.sigma[3].float()
    assert abs(float(noise.std()) - 1) < 0.05
    assert abs(float((noise * x).mean())) < 0.05, "the noise is new"
