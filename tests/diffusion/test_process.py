import pytest
import torch
from torch import Tensor, nn

from noisereel.diffusion.process import Diffusion, noise_on_device
from noisereel.diffusion.schedules import Cosine, LinearBeta, Rectified, Schedule
from noisereel.diffusion.targets import PREDICTS, Predicts
from noisereel.diffusion.times import ladder, like, logit_normal, min_snr
from noisereel.types import Cond, Time, Video, generators, randn

ZERO_TERMINAL = LinearBeta(start=8.5e-4, end=0.012, scaled=True, zero_terminal=True)
SCHEDULES = [Cosine(), Cosine(shift=-1.0), LinearBeta(), ZERO_TERMINAL, Rectified(), Rectified(shift=-2.0)]
SHAPE = (3, 2, 4, 4)  # of a sample


def pair(count: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    return randn(generators(0, range(count)), *SHAPE).to(dtype), randn(generators(1, range(count)), *SHAPE).to(dtype)


PAIRS = [(schedule, predicts) for schedule in SCHEDULES for predicts in PREDICTS]


@pytest.mark.parametrize(("schedule", "predicts"), [pair for pair in PAIRS if pair[1] != "eps" or pair[0](torch.ones(1)).alpha])
def test_round_trip(schedule: Schedule, predicts: Predicts) -> None:
    t = torch.linspace(0, 1, 21, dtype=torch.float64)
    x0, eps = pair(21, torch.float64)
    diffusion = Diffusion(schedule=schedule, predicts=predicts)
    back = diffusion.clean(diffusion.noise(x0, t, eps), diffusion.target(x0, eps, t), t)
    torch.testing.assert_close(back, x0, rtol=0, atol=1e-6)


def test_predicting_x0_is_the_answer_itself() -> None:
    x, out = pair(5)
    t = torch.tensor([0.001, 0.3, 0.5, 0.9, 1.0])
    assert torch.equal(Diffusion(schedule=Rectified(), predicts="x0").clean(x, out, t), out)


def test_targets_are_those_of_the_papers() -> None:
    x0, eps = pair(4, torch.float64)
    t = torch.tensor([0.1, 0.4, 0.7, 1.0], dtype=torch.float64)
    level = Cosine()(t)
    alpha, sigma = level.alpha[:, None, None, None, None], level.sigma[:, None, None, None, None]
    torch.testing.assert_close(Diffusion(schedule=Cosine(), predicts="v").target(x0, eps, t), alpha * eps - sigma * x0)
    # The velocity of the path itself, by a finite difference in sigma.
    flow = Diffusion(schedule=Rectified(), predicts="flow")
    rate = (flow.noise(x0, t, eps) - flow.noise(x0, t - 1e-6, eps)) / 1e-6
    torch.testing.assert_close(flow.target(x0, eps, t), rate, rtol=0, atol=1e-7)


def test_a_process_made_on_the_meta_device_works() -> None:
    """Models are built there to count their parameters."""
    with torch.device("meta"):
        diffusion = Diffusion(schedule=LinearBeta(steps=100), predicts="eps")
        rungs = ladder(diffusion.schedule, 5, "log_snr")
    assert rungs.t.device.type == "cpu"
    assert diffusion.schedule(torch.tensor(0.5)).alpha.isfinite()


@pytest.mark.parametrize("schedule", [Rectified(), ZERO_TERMINAL])
def test_eps_is_refused_where_no_signal_is_left(schedule: Schedule) -> None:
    with pytest.raises(ValueError, match="predict v, x0 or flow"):
        Diffusion(schedule=schedule, predicts="eps")


def exact_network(diffusion: Diffusion, x0: Video, error: float) -> object:
    """Answers as if the clean video were ``x0 + error``."""

    def net(x: Video, t: Time, cond: Cond) -> Video:
        level = diffusion.schedule(t)
        alpha, sigma = level.alpha[:, None, None, None, None], level.sigma[:, None, None, None, None]
        wrong = x0 + error
        return diffusion.target(wrong, (x - alpha * wrong) / sigma, t)

    return net


@pytest.mark.parametrize("predicts", list(PREDICTS))
def test_loss_is_the_error_of_the_clean_video_in_the_measure_asked_for(predicts: Predicts) -> None:
    x0, _ = pair(8)
    t = torch.linspace(0.15, 0.9, 8)
    snr = Cosine()(t).snr
    for weight, expected in [
        (min_snr(5.0), snr.clamp(max=5)),
        (like("v", limit=1e9), snr + 1),
        (like("x0", 1e9), torch.ones(8)),
    ]:
        diffusion = Diffusion(schedule=Cosine(), predicts=predicts, weight=weight)
        loss = diffusion.loss_at(exact_network(diffusion, x0, 0.5), x0, Cond(), t, generators(2, range(8)))
        torch.testing.assert_close(loss, 0.25 * expected, rtol=1e-3, atol=1e-4)


def test_loss_of_a_sample_does_not_depend_on_the_batch() -> None:
    x0, _ = pair(6)
    diffusion = Diffusion(schedule=Cosine(), draw=logit_normal(0.5, 1.2))

    def net(x: Video, t: Time, cond: Cond) -> Video:
        return torch.tanh(x) * t[:, None, None, None, None]

    whole = diffusion.loss(net, x0, Cond(), generators(3, range(6)))
    for index in (0, 4):
        alone = diffusion.loss(net, x0[index : index + 1], Cond(), generators(3, [index]))
        torch.testing.assert_close(alone[0], whole[index])
    assert whole.unique().numel() == 6


def test_loss_is_computed_in_float32_under_autocast() -> None:
    x0, _ = pair(4)
    layer = nn.Conv3d(3, 3, 1)
    answers: list[Tensor] = []

    def net(x: Video, t: Time, cond: Cond) -> Video:
        assert x.dtype == torch.float32
        answers.append(layer(x))
        return answers[-1]

    diffusion = Diffusion(schedule=Rectified(), predicts="flow")
    t = torch.full((4,), 0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = diffusion.loss_at(net, x0, Cond(), t, generators(0, range(4)))
        denoised = diffusion.denoiser(net, Cond())(x0, t)
    assert answers[0].dtype == torch.bfloat16
    assert loss.dtype == denoised.dtype == torch.float32
    eps = randn(generators(0, range(4)), *SHAPE)
    torch.testing.assert_close(loss, (answers[0].float() - (eps - x0)).pow(2).mean((1, 2, 3, 4)))
    loss.sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.abs().sum() > 0


def test_network_is_told_the_time_or_the_log_snr() -> None:
    t = torch.tensor([0.0, 0.25, 0.5, 1.0])
    assert torch.equal(Diffusion(schedule=Cosine()).tell(t), t)
    told = Diffusion(schedule=Cosine(), tells="log_snr").tell(t)
    torch.testing.assert_close(told, torch.tensor([0.0, (20 - 1.7626) / 40, 0.5, 1.0]), rtol=0, atol=1e-5)
    assert torch.equal(Diffusion(schedule=Rectified(), tells="log_snr").tell(t)[[0, 2, 3]], t[[0, 2, 3]])


def test_denoiser_hands_the_network_what_it_is_told_and_its_conditions() -> None:
    cond = Cond(fps=torch.tensor([8.0, 8.0]))
    x, _ = pair(2)
    seen: list[object] = []

    def net(x: Video, t: Time, given: Cond) -> Video:
        seen.extend([t, given])
        return x

    Diffusion(schedule=Cosine(), tells="log_snr").denoiser(net, cond)(x, torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(seen[0], torch.tensor([0.5, 1.0]))
    assert seen[1] is cond


def test_noise_on_a_device_belongs_to_the_sample() -> None:
    whole = noise_on_device(torch.zeros(4, 3, 8, 16, 16), generators(0, range(4)))
    assert torch.equal(noise_on_device(torch.zeros(1, 3, 8, 16, 16), generators(0, [2]))[0], whole[2])
    assert whole.std().item() == pytest.approx(1, abs=0.02)
    assert whole.flatten(1).double().corrcoef().fill_diagonal_(0).abs().max() < 0.06
    rng = generators(0, [0])
    assert not torch.equal(*(noise_on_device(whole[:1], rng) for _ in range(2)))
