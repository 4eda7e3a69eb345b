import math
from collections.abc import Callable

import pytest
import torch
from einops import repeat
from torch import Tensor
from torch.nn.functional import avg_pool3d

from noisereel.diffusion.guidance import (
    Guide,
    apg,
    cfg,
    cfg_zero,
    clip_dynamic,
    clip_static,
    interval,
    oscillate,
    reconstruct,
    rescale,
    rise,
    thresholded,
)
from noisereel.diffusion.process import Diffusion
from noisereel.diffusion.samplers import ancestral, ddim, heun
from noisereel.diffusion.schedules import Cosine, Rectified, Schedule
from noisereel.diffusion.times import ladder
from noisereel.types import Cond, Denoiser, Time, Video, generators, randn

SHAPE = (2, 3, 4, 4)
LADDER = ladder(Rectified(), 10)


def noise(count: int = 3, seed: int = 0) -> Tensor:
    return randn(generators(seed, range(count)), *SHAPE)


def cond(x: Video, t: Time) -> Video:
    return torch.tanh(x) + 0.3


def null(x: Video, t: Time) -> Video:
    return torch.sin(x) * 0.8


def never(x: Video, t: Time) -> Video:
    raise AssertionError("called")


def at(t: float, count: int = 3) -> Time:
    return torch.full((count,), t)


ONES: dict[str, Guide] = {
    "cfg": cfg(1.0),
    "apg": apg(1.0),
    "oscillate": oscillate(1.0, 1.0, 2, LADDER),
    "rise": rise(0.0, LADDER),
    "interval": interval(cfg(5.0), 0.0, 0.3),
    "rescale": rescale(cfg(1.0), 0.7),
}


@pytest.mark.parametrize("name", ONES)
def test_scale_one_is_conditional_and_costs_one_evaluation(name: str) -> None:
    torch.testing.assert_close(ONES[name](cond, never)(noise(), at(0.5)), cond(noise(), at(0.5)))


def test_scale_zero_is_unconditional_and_others_extrapolate() -> None:
    x, t = noise(), at(0.5)
    torch.testing.assert_close(cfg(0.0)(cond, null)(x, t), null(x, t))
    torch.testing.assert_close(cfg(3.0)(cond, null)(x, t), 3 * cond(x, t) - 2 * null(x, t))


@pytest.mark.parametrize("schedule", [Cosine(), Rectified()])
def test_guidance_is_the_same_on_every_target(schedule: Schedule) -> None:
    x, t = noise(), torch.tensor([0.2, 0.5, 0.8])
    with_text, without = noise(seed=1), noise(seed=2)
    for predicts in ("x0", "v", "flow"):
        diffusion = Diffusion(schedule=schedule, predicts=predicts)
        guided, *apart = (
            diffusion.denoiser(lambda x, t, cond, out=out: out, Cond())
            for out in (without + 4 * (with_text - without), with_text, without)
        )
        torch.testing.assert_close(cfg(4.0)(*apart)(x, t), guided(x, t), rtol=1e-4, atol=1e-4)


def scales(guide: Guide, times: Tensor) -> list[float]:
    guided = guide(lambda x, t: torch.ones_like(x), lambda x, t: torch.zeros_like(x))
    return [round(guided(noise(1), t.float().view(1)).mean().item(), 4) for t in times]


def test_oscillation_is_high_then_alternates() -> None:
    assert scales(oscillate(15.0, 1.0, 4, LADDER), LADDER.t[:-1]) == [15, 15, 15, 15, 15, 1, 15, 1, 15, 1]


def test_a_batch_at_several_times_is_guided_at_the_scale_of_each() -> None:
    guided = oscillate(15.0, 1.0, 1, LADDER)(cond, null)
    times = LADDER.t[torch.tensor([2, 3, 0])].float()
    together = guided(noise(), times)
    for row in range(3):
        alone = guided(noise()[row : row + 1], times[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone)


def test_thresholding_a_guide_keeps_what_it_makes_in_range() -> None:
    x, t = noise(), at(0.5)
    loud, quiet = cfg(30.0), cfg(1.0)
    assert loud(cond, null)(x, t).abs().max() > 1
    assert thresholded(loud)(cond, null)(x, t).abs().max() <= 1
    small: Denoiser = lambda x, t: 0.5 * torch.tanh(x)  # noqa: E731
    assert torch.equal(thresholded(quiet)(small, null)(x, t), small(x, t))


def test_rise_is_late_and_reaches_its_scale() -> None:
    found = scales(rise(5.0, LADDER), LADDER.t)
    assert found[0] == 1
    assert found[-1] == 6
    assert found[5] == pytest.approx(1 + 5 * (1 - math.cos(math.pi / 32)) / 2, abs=1e-4)
    assert found == sorted(found)


def test_interval_guides_only_inside() -> None:
    assert scales(interval(cfg(4.0), 0.25, 0.65), LADDER.t) == [1, 1, 1, 1, 4, 4, 4, 4, 1, 1, 1]


def test_rescale_gives_back_the_unguided_deviation() -> None:
    x, t = noise(), at(0.5)
    deviation = lambda video: video.std(dim=(1, 2, 3, 4))  # noqa: E731
    guided = cfg(7.0)(cond, null)(x, t)
    full, half = (rescale(cfg(7.0), phi)(cond, null)(x, t) for phi in (1.0, 0.5))
    torch.testing.assert_close(deviation(full), deviation(cond(x, t)))
    torch.testing.assert_close(half, 0.5 * (full + guided))
    torch.testing.assert_close(rescale(cfg(7.0), 0.0)(cond, null)(x, t), guided)


def test_rescale_asks_the_conditional_denoiser_once() -> None:
    calls: list[Tensor] = []

    def counted(x: Video, t: Time) -> Video:
        calls.append(x)
        return cond(x, t)

    guided = rescale(cfg(7.0), 0.7)(counted, null)
    first, second = guided(noise(), at(0.5)), guided(noise(seed=1), at(0.5))
    assert len(calls) == 2
    assert not torch.equal(first, second)


def flat(video: Tensor) -> Tensor:
    return video.flatten(1).double()


def test_apg_adds_nothing_along_the_conditional_estimate() -> None:
    x, t = noise(), at(0.5)
    change = apg(6.0)(cond, null)(x, t) - cond(x, t)
    assert (flat(change) * flat(cond(x, t))).sum(1).abs().max() < 1e-3
    assert change.abs().max() > 0.1


def test_apg_without_projection_is_cfg() -> None:
    x, t = noise(), at(0.5)
    torch.testing.assert_close(apg(6.0, eta=1.0)(cond, null)(x, t), cfg(6.0)(cond, null)(x, t), rtol=1e-4, atol=1e-5)


def test_apg_limits_the_norm_of_each_sample() -> None:
    x, t = noise(), at(0.5)
    difference = flat(cond(x, t) - null(x, t))
    limit = difference.norm(dim=1).sort().values[1].item()  # between the smallest and the largest
    change = flat(apg(2.0, eta=1.0, norm=limit)(cond, null)(x, t) - cond(x, t))
    torch.testing.assert_close(change.norm(dim=1), difference.norm(dim=1).clamp(max=limit), rtol=1e-4, atol=0)


def test_apg_momentum_remembers_within_a_sampling_only() -> None:
    guide = apg(2.0, eta=1.0, momentum=-0.5)
    x, t = noise(), at(0.5)
    difference = cond(x, t) - null(x, t)
    guided = guide(cond, null)
    changes = [guided(x, t) - cond(x, t) for _ in range(3)]
    for change, factor in zip(changes, (1, 0.5, 0.75), strict=True):
        torch.testing.assert_close(change, factor * difference, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(guide(cond, null)(x, t) - cond(x, t), difference, rtol=1e-4, atol=1e-5)


def test_cfg_zero_fits_the_unconditional_velocity() -> None:
    schedule = Rectified()
    x, t = noise(), at(0.5)
    velocity = lambda denoiser: (x - denoiser(x, t)) / 0.5  # noqa: E731
    with_text, without = velocity(cond), velocity(null)
    fitted = (
        torch.stack([(u @ c) / (u @ u) * u for c, u in zip(flat(with_text), flat(without), strict=True)]).view_as(x).float()
    )
    for scale in (0.0, 1.0, 5.0):
        found = velocity(cfg_zero(schedule, scale, 1, LADDER)(cond, null))
        torch.testing.assert_close(found, fitted + scale * (with_text - fitted), rtol=1e-4, atol=1e-4)
    # What is left of the conditional velocity is orthogonal to the fitted one: no other multiple fits better.
    assert (flat(with_text - fitted) * flat(without)).sum(1).abs().max() < 1e-3


def test_cfg_zero_stands_still_at_first() -> None:
    guided = cfg_zero(Rectified(), 5.0, 2, LADDER)
    steps = list(ddim()(guided(cond, null), noise(), LADDER, generators(0, range(3))))
    torch.testing.assert_close(steps[0].x, noise())
    torch.testing.assert_close(steps[1].x, noise())
    assert (steps[2].x - noise()).abs().max() > 0.01


def test_static_clip() -> None:
    x = 2 * noise()
    assert torch.equal(clip_static(lambda x, t: x)(x, at(0.5)), x.clamp(-1, 1))


def test_dynamic_clip_leaves_what_is_in_range() -> None:
    inside = torch.tanh(noise())
    assert torch.equal(clip_dynamic(lambda x, t: x)(inside, at(0.5)), inside)


def test_dynamic_clip_shrinks_each_sample_by_its_own_quantile() -> None:
    x = torch.stack([torch.linspace(-3, 3, 96), torch.linspace(-0.5, 0.5, 96)]).view(2, *SHAPE)
    clipped = clip_dynamic(lambda x, t: x, quantile=0.9)(x, at(0.5, 2))
    limit = x[0].abs().flatten().quantile(0.9, interpolation="higher")
    torch.testing.assert_close(clipped[0], (x[0] / limit).clamp(-1, 1))
    assert torch.equal(clipped[1], x[1])


def test_a_quantile_is_a_quantile() -> None:
    with pytest.raises(ValueError, match="99"):
        clip_dynamic(cond, quantile=99.0)


# Reconstruction guidance: a video of two frames a and b, each N(0, 1), of correlation RHO; the frame a is known.

RHO = 0.9


def pair_denoiser(schedule: Schedule) -> Denoiser:
    """E[x0 | x] of the pair."""
    covariance = torch.tensor([[1, RHO], [RHO, 1]], dtype=torch.float64)

    def denoise(x: Video, t: Time) -> Video:
        level = schedule(t[:1].double())
        gain = level.alpha * covariance @ torch.linalg.inv(level.alpha**2 * covariance + level.sigma**2 * torch.eye(2))
        return torch.einsum("ij,bcjhw->bcihw", gain.to(x.dtype), x)

    return denoise


def pairs(count: int) -> Tensor:
    independent = torch.randn(count, 1, 2, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    a, b = independent.unbind(2)
    return torch.stack([a, RHO * a + math.sqrt(1 - RHO**2) * b], dim=2)


def test_reconstruction_guidance_approaches_the_exact_posterior() -> None:
    """VDM derives the correction for high SNR: its error must fall to nothing there."""
    errors = []
    for log_snr in (0.0, 2.0, 4.0, 6.0, 8.0):
        schedule = Cosine(shift=log_snr)  # at t = 1/2
        x0, t = pairs(2000), torch.full((2000,), 0.5, dtype=torch.float64)
        level = schedule(t[:1])
        x = level.alpha * x0 + level.sigma * torch.randn(
            x0.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(8)
        )
        a = x0[:, :, :1]
        # b given a is N(RHO a, 1 - RHO**2), and its own noisy frame is all that a does not say.
        spread = 1 - RHO**2
        gain = spread * level.alpha / (level.alpha**2 * spread + level.sigma**2)
        exact = RHO * a + gain * (x[:, :, 1:] - level.alpha * RHO * a)
        plain = pair_denoiser(schedule)
        guided = reconstruct(plain, schedule, a, lambda video: video[:, :, :1], 1.0, [])
        plain_b, guided_b = (denoiser(x, t)[:, :, 1:] for denoiser in (plain, guided))
        errors.append(((guided_b - exact).norm() / (plain_b - exact).norm()).item())
    assert errors == sorted(errors, reverse=True), errors
    assert errors[0] < 1
    assert errors[-1] < 3e-3


def mask_of(frames: list[int], count: int = 3) -> Tensor:
    mask = torch.zeros(SHAPE[1], dtype=torch.bool)
    mask[frames] = True
    return repeat(mask, "t -> b 1 t 1 1", b=count)


def mixing(x: Video, t: Time) -> Video:
    """Some denoiser in which every frame looks at every other."""
    return torch.tanh(x + 0.5 * x.mean(dim=2, keepdim=True))


@pytest.mark.parametrize("frames", [[0], [0, 2]])  # extension, and filling between
def test_weight_zero_is_the_replacement_method(frames: list[int]) -> None:
    mask, known, x, t = mask_of(frames), noise(seed=4), noise(), at(0.6)
    guided = reconstruct(mixing, Cosine(), known, mask, 0.0, generators(9, range(3)))
    level = Cosine()(t[:1])
    noised = level.alpha * known + level.sigma * noise(seed=9)
    expected = torch.where(mask, known, mixing(torch.where(mask, noised, x), t))
    assert torch.equal(guided(x, t), expected)


def test_the_gradient_is_that_of_the_paper() -> None:
    mask, known, x, t = mask_of([0]), noise(seed=4), noise(), at(0.6)
    level = Cosine()(t[:1])
    noised = torch.where(mask, level.alpha * known + level.sigma * noise(seed=9), x).requires_grad_()
    clean = mixing(noised, t)
    (gradient,) = torch.autograd.grad((known - clean)[:, :, :1].square().sum(), noised)
    expected = torch.where(mask, known, clean - 3.0 * level.alpha / 2 * gradient)
    guided = reconstruct(mixing, Cosine(), known, mask, 3.0, generators(9, range(3)))
    torch.testing.assert_close(guided(x, t), expected)


@pytest.mark.parametrize("sampler", [ancestral(gamma=0.1), ddim(), heun()])
def test_sampling_keeps_what_is_known_and_stays_close_to_it(sampler) -> None:
    """With the two correlated frames: b is drawn near RHO * a, nearer than replacement alone draws it."""
    schedule, count = Cosine(), 64
    a = torch.full((count, 1, 1, 1, 1), 2.0)
    known = torch.cat([a, torch.full_like(a, torch.nan)], dim=2)  # what is not known is never looked at
    mask = repeat(torch.tensor([True, False]), "t -> 1 1 t 1 1")
    distance = {}
    for weight in (0.0, 1.0):
        rng = generators(2, range(count))
        denoiser = reconstruct(pair_denoiser(schedule), schedule, known, mask, weight, rng)
        *_, last = sampler(denoiser, randn(rng, 1, 2, 1, 1), ladder(schedule, 64), rng)
        assert torch.equal(last.x[:, :, :1], a)
        distance[weight] = (last.x[:, :, 1].mean() - RHO * 2).abs().item()
    assert distance[1.0] < 0.75 * distance[0.0]


def smooth(video: Video) -> Video:
    return avg_pool3d(video, (1, 2, 2))


@pytest.mark.parametrize("seed", range(3))
def test_super_resolution_agrees_with_the_low_resolution(seed: int) -> None:
    schedule = Cosine()
    low = smooth(torch.tanh(noise(seed=5 + seed)))
    data: Callable[[Video, Time], Video] = Diffusion(schedule=schedule, predicts="x0").denoiser(
        lambda x, t, cond: 0.5 * torch.tanh(2 * x), Cond()
    )

    def disagreement(weight: float) -> float:
        rng = generators(seed, range(3))
        denoiser = reconstruct(data, schedule, low, smooth, weight, rng)
        *_, last = ancestral()(denoiser, randn(rng, *SHAPE), ladder(schedule, 64), rng)
        return (smooth(last.x) - low).square().mean().item()

    assert disagreement(2.0) < 0.3 * disagreement(0.0)


def test_wrappers_nest() -> None:
    """Known frames and a known low resolution at once: both gradients reach the estimate."""
    schedule, x, t = Cosine(), noise(), at(0.3)
    low, known, mask = smooth(noise(seed=5)), noise(seed=4), mask_of([0])

    def both(weight: float) -> Video:
        inner = reconstruct(mixing, schedule, low, smooth, 1.0, [])
        return reconstruct(inner, schedule, known, mask, weight, generators(9, range(3)))(x, t)

    assert not both(1.0).requires_grad
    assert (both(1.0) - both(0.0))[:, :, 1:].abs().max() > 1e-3
