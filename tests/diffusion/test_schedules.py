import math

import pytest
import torch

from noisereel.diffusion.schedules import Cosine, LinearBeta, Rectified, Schedule, flow_shift, snr_shift

COGVIDEOX = LinearBeta(start=8.5e-4, end=0.012, scaled=True, shift=snr_shift(3.0), zero_terminal=True)
SCHEDULES = [
    Cosine(),
    Cosine(shift=-2.0),
    LinearBeta(),
    LinearBeta(scaled=True),
    COGVIDEOX,
    Rectified(),
    Rectified(shift=flow_shift(5.0)),
]


def times(count: int = 257) -> torch.Tensor:
    return torch.linspace(0, 1, count, dtype=torch.float64)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_noise_rises_from_clean_without_a_nan(schedule: Schedule) -> None:
    level = schedule(times(4001))
    assert level.alpha.isfinite().all()
    assert level.sigma.isfinite().all()
    assert (level.alpha.diff() < 0).all()
    assert (level.sigma.diff() > 0).all()
    assert ((level.alpha >= 0) & (level.sigma >= 0)).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_variance_is_preserved_or_the_line_is_straight(schedule: Schedule) -> None:
    level = schedule(times())
    total = level.alpha + level.sigma if isinstance(schedule, Rectified) else level.alpha**2 + level.sigma**2
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("schedule", "clean", "noise"),
    [
        (Rectified(), True, True),
        (Rectified(shift=flow_shift(17.0)), True, True),
        (COGVIDEOX, True, True),
        (LinearBeta(), True, False),
        (Cosine(), False, False),
        (Cosine(log_snr_min=-math.inf, log_snr_max=math.inf), True, True),
        (Cosine(log_snr_min=-math.inf, log_snr_max=math.inf, shift=-3.0), True, True),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ends_are_exact(schedule: Schedule, clean: bool, noise: bool, dtype: torch.dtype) -> None:
    level = schedule(torch.tensor([0.0, 1.0], dtype=dtype))
    assert level.alpha.dtype == level.sigma.dtype == dtype
    assert (level.sigma[0].item() == 0) == clean
    assert (level.alpha[1].item() == 0) == noise
    if clean:
        assert level.alpha[0] == 1
    if noise:
        assert level.sigma[1] == 1


def test_cosine_is_the_log_snr_of_vdm() -> None:
    log_snr = Cosine()(torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)).log_snr
    torch.testing.assert_close(log_snr, torch.tensor([20, 1.7626, 0, -20], dtype=torch.float64), rtol=0, atol=1e-4)
    # -2 log tan(a t + b), written out.
    b = math.atan(math.exp(-10))
    a = math.atan(math.exp(10)) - b
    expected = -2 * torch.log(torch.tan(a * times() + b))
    torch.testing.assert_close(Cosine()(times()).log_snr, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scaled", [False, True])
def test_linear_beta_is_the_product_of_its_betas(scaled: bool) -> None:
    power = 2 if scaled else 1
    beta = torch.linspace(1e-4 ** (1 / power), 0.02 ** (1 / power), 1000, dtype=torch.float64) ** power
    level = LinearBeta(scaled=scaled)(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    torch.testing.assert_close(level.alpha**2, (1 - beta).cumprod(0), rtol=1e-11, atol=0)


def test_linear_beta_is_linear_in_log_snr_between_its_steps() -> None:
    step = torch.tensor([500, 500.25, 501], dtype=torch.float64) / 1000
    low, between, high = LinearBeta()(step).log_snr
    torch.testing.assert_close(between, 0.75 * low + 0.25 * high)


def test_stable_diffusion_ends_where_it_is_known_to() -> None:
    level = LinearBeta(start=8.5e-4, end=0.012, scaled=True)(torch.ones(1, dtype=torch.float64))
    assert level.alpha.item() ** 2 == pytest.approx(0.004660, abs=5e-7)


def test_zero_terminal_keeps_the_first_step() -> None:
    time = torch.tensor([0.001, 1.0], dtype=torch.float64)
    plain, rescaled = LinearBeta()(time), LinearBeta(zero_terminal=True)(time)
    torch.testing.assert_close(rescaled.alpha[0], plain.alpha[0])
    assert rescaled.alpha[1] == 0


@pytest.mark.parametrize("make", [Cosine, LinearBeta, Rectified])
def test_shift_divides_the_snr(make: type) -> None:
    inside = times()[1:-1]
    plain = make()(inside).snr
    torch.testing.assert_close(plain / make(shift=flow_shift(5.0))(inside).snr, torch.full_like(plain, 25))
    torch.testing.assert_close(plain / make(shift=snr_shift(3.0))(inside).snr, torch.full_like(plain, 3))


def test_shifts_are_those_of_flow_models_and_cogvideox() -> None:
    sigma = times()
    torch.testing.assert_close(Rectified(shift=flow_shift(5.0))(sigma).sigma, 5 * sigma / (1 + 4 * sigma))
    before = LinearBeta()(times()).alpha ** 2
    after = LinearBeta(shift=snr_shift(3.0))(times()).alpha ** 2
    torch.testing.assert_close(after, before / (3 - 2 * before))


def test_any_shape_of_times() -> None:
    assert Cosine()(torch.rand(2, 3, 4)).alpha.shape == (2, 3, 4)
    assert LinearBeta()(torch.tensor(0.5)).sigma.shape == ()
