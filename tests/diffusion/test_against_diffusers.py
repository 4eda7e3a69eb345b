"""The same numbers as diffusers' schedulers, where they agree with the papers."""

from typing import Any

import pytest
import torch
from torch import Tensor

from noisereel.diffusion.guidance import apg, cfg, rescale
from noisereel.diffusion.process import Diffusion
from noisereel.diffusion.samplers import Sampler, ancestral, ddim, dpmpp_2m, dpmpp_2m_sde, heun, unipc
from noisereel.diffusion.schedules import LinearBeta, Rectified, flow_shift, snr_shift
from noisereel.diffusion.times import Ladder, at_times, ladder
from noisereel.types import Cond, Time, Video, generators, randn

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs, on numpy 2

STABLE = {"beta_start": 8.5e-4, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
STABLE_OURS = LinearBeta(start=8.5e-4, end=0.012, scaled=True)
V = {"prediction_type": "v_prediction", "timestep_spacing": "trailing"}


def network(x: Tensor) -> Tensor:
    return 0.7 * torch.tanh(x) + 0.1


def start() -> Tensor:
    return randn(generators(0, [0]), 3, 2, 4, 4)


def theirs(scheduler: Any, sigmas: list[float] | None = None, steps: int = 10) -> list[Tensor]:
    """x after each step of a scheduler, with the noise of generator (1, 0)."""
    scheduler.set_timesteps(sigmas=sigmas) if sigmas else scheduler.set_timesteps(steps)
    x, path = start(), []
    generator = generators(1, [0])[0]
    random = not type(scheduler).__name__.startswith(("UniPC", "FlowMatchHeun", "CogVideoX"))
    for t in scheduler.timesteps:
        options = {"generator": generator} if random else {}
        x = scheduler.step(network(x), t, x, **options)
        x = x[0] if isinstance(x, tuple) else x.prev_sample
        path.append(x)
    return path


def ours(diffusion: Diffusion, sampler: Sampler, rungs: Ladder) -> list[Tensor]:
    def net(x: Video, t: Time, cond: Cond) -> Video:
        return network(x)

    return [step.x for step in sampler(diffusion.denoiser(net, Cond()), start(), rungs, generators(1, [0]))]


@pytest.mark.parametrize(
    ("options", "schedule"),
    [
        ({"beta_schedule": "linear"}, LinearBeta()),
        (STABLE, STABLE_OURS),
        ({"beta_schedule": "linear", "rescale_betas_zero_snr": True}, LinearBeta(zero_terminal=True)),
        (STABLE | {"rescale_betas_zero_snr": True}, LinearBeta(start=8.5e-4, end=0.012, scaled=True, zero_terminal=True)),
    ],
)
def test_noise_levels(options: dict[str, Any], schedule: LinearBeta) -> None:
    levels = schedule(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    torch.testing.assert_close(levels.alpha**2, diffusers.DDIMScheduler(**options).alphas_cumprod.double(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("name", ["CogVideoXDDIMScheduler", "CogVideoXDPMScheduler"])
def test_noise_levels_of_cogvideox(name: str, scale: float, zero: bool) -> None:
    scheduler = getattr(diffusers, name)(**STABLE, snr_shift_scale=scale, rescale_betas_zero_snr=zero)
    schedule = LinearBeta(start=8.5e-4, end=0.012, scaled=True, shift=snr_shift(scale), zero_terminal=zero)
    levels = schedule(torch.arange(1, 1001, dtype=torch.float64) / 1000)
    torch.testing.assert_close(levels.alpha**2, scheduler.alphas_cumprod.double(), rtol=0, atol=2e-6)


@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_ddim(spacing: str, prediction: str) -> None:
    scheduler = diffusers.DDIMScheduler(
        **STABLE, prediction_type=prediction, timestep_spacing=spacing, steps_offset=1, clip_sample=False
    )
    predicts = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}[prediction]
    mine = ours(Diffusion(schedule=STABLE_OURS, predicts=predicts), ddim(), ladder(STABLE_OURS, 10, spacing))
    for found, expected in zip(mine, theirs(scheduler), strict=True):
        torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-4)


def test_ddim_of_cogvideox_from_no_signal() -> None:
    schedule = LinearBeta(start=8.5e-4, end=0.012, scaled=True, shift=snr_shift(3.0), zero_terminal=True)
    scheduler = diffusers.CogVideoXDDIMScheduler(
        **STABLE, **V, snr_shift_scale=3.0, rescale_betas_zero_snr=True, clip_sample=False
    )
    mine = ours(Diffusion(schedule=schedule, predicts="v"), ddim(), ladder(schedule, 10, "trailing"))
    for found, expected in zip(mine, theirs(scheduler), strict=True):
        torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(("variance", "gamma"), [("fixed_small", 0.0), ("fixed_large", 1.0)])
def test_ddpm(variance: str, gamma: float) -> None:
    scheduler = diffusers.DDPMScheduler(**STABLE, **V, variance_type=variance, clip_sample=False)
    mine = ours(Diffusion(schedule=STABLE_OURS), ancestral(gamma=gamma), ladder(STABLE_OURS, 10, "trailing"))
    for found, expected in zip(mine[:-1], theirs(scheduler)[:-1], strict=True):  # theirs ends with noise on top
        torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-4)


SOLVERS = {
    "dpmsolver++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}, dpmpp_2m()),
    "sde-dpmsolver++": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}, dpmpp_2m_sde()),
    "unipc": ("UniPCMultistepScheduler", {"solver_type": "bh2"}, unipc()),
}


@pytest.mark.parametrize("solver", SOLVERS)
def test_second_order_solvers(solver: str) -> None:
    name, options, sampler = SOLVERS[solver]
    scheduler = getattr(diffusers, name)(**STABLE, **V, **options, solver_order=2)
    mine = ours(Diffusion(schedule=STABLE_OURS), sampler, ladder(STABLE_OURS, 10, "trailing"))
    for found, expected in zip(mine, theirs(scheduler), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def on_line(sigmas: Tensor, shift: float) -> Ladder:
    """The ladder of a flow scheduler's sigmas."""
    sigmas = sigmas.double()
    return at_times(Rectified(shift=flow_shift(shift)), sigmas / (shift - (shift - 1) * sigmas))


@pytest.mark.parametrize("solver", SOLVERS)
def test_second_order_solvers_on_flow(solver: str) -> None:
    """The grid is theirs (Wan's); so the numbers must be."""
    name, options, sampler = SOLVERS[solver]
    flow = {"use_flow_sigmas": True, "flow_shift": 5.0, "prediction_type": "flow_prediction"}
    scheduler = getattr(diffusers, name)(**options, **flow, solver_order=2)
    expected = theirs(scheduler)
    mine = ours(Diffusion(schedule=Rectified(shift=flow_shift(5.0)), predicts="flow"), sampler, on_line(scheduler.sigmas, 5.0))
    for found, wanted in zip(mine, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shift", [1.0, 5.0])
def test_flow_matching_euler(shift: float) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    expected = theirs(scheduler, sigmas=[1 - index / 10 for index in range(10)])
    schedule = Rectified(shift=flow_shift(shift))
    mine = ours(Diffusion(schedule=schedule, predicts="flow"), ddim(), ladder(schedule, 10))
    for found, wanted in zip(mine, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_flow_matching_heun() -> None:
    scheduler = diffusers.FlowMatchHeunDiscreteScheduler()
    expected = theirs(scheduler)
    rungs = on_line(torch.cat([scheduler.sigmas[:1], scheduler.sigmas[1::2]]), 1.0)
    mine = ours(Diffusion(schedule=Rectified(), predicts="flow"), heun(), rungs)
    for found, wanted in zip(mine[:-1], expected[1:-1:2], strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def test_guides() -> None:
    guiders = pytest.importorskip("diffusers.guiders.adaptive_projected_guidance")
    helpers = pytest.importorskip("diffusers.guiders.guider_utils")
    cond, null = start(), randn(generators(2, [0]), 3, 2, 4, 4)
    t = torch.full((1,), 0.5)
    guided = cfg(6.0)(lambda x, t: cond, lambda x, t: null)(start(), t)
    torch.testing.assert_close(
        rescale(cfg(6.0), 0.7)(lambda x, t: cond, lambda x, t: null)(start(), t), helpers.rescale_noise_cfg(guided, cond, 0.7)
    )
    found = apg(6.0, eta=0.3, norm=5.0)(lambda x, t: cond, lambda x, t: null)(start(), t)
    expected = guiders.normalized_guidance(cond, null, 5.0, None, 0.3, 5.0, use_original_formulation=True)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shift", [1.0, 3.0, 12.0])
@pytest.mark.parametrize("steps", [1, 4, 7, 50])
def test_the_grids_of_the_flow_schedulers_and_what_they_tell_the_network(shift: float, steps: int) -> None:
    schedule = Rectified(shift=flow_shift(shift))
    solver = diffusers.UniPCMultistepScheduler(use_flow_sigmas=True, flow_shift=shift, prediction_type="flow_prediction")
    euler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    for scheduler, spacing, tells, near in ((solver, "flow_solver", "whole_sigma", 1e-4), (euler, "flow_euler", "sigma", 1e-3)):
        scheduler.set_timesteps(steps)
        rungs = ladder(schedule, steps, spacing)
        torch.testing.assert_close(rungs.level.sigma, scheduler.sigmas.double(), rtol=0, atol=1e-7)
        told = Diffusion(schedule=schedule, predicts="flow", tells=tells).tell(rungs.t[:-1].float())
        torch.testing.assert_close(1000 * told, scheduler.timesteps.float(), rtol=0, atol=near)


def test_stable_diffusion_ends_at_the_first_discrete_step() -> None:
    """Without ``set_alpha_to_one`` the last step leaves the noise of index 0."""
    scheduler = diffusers.DDIMScheduler(**STABLE, set_alpha_to_one=False, steps_offset=1, clip_sample=False)
    rungs = ladder(STABLE_OURS, 10, "leading", last=0.001)
    diffusion = Diffusion(schedule=STABLE_OURS, predicts="eps", tells="index")
    for found, expected in zip(ours(diffusion, ddim(), rungs), theirs(scheduler), strict=True):
        torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-4)
    torch.testing.assert_close(1000 * diffusion.tell(rungs.t[:-1].float()), scheduler.timesteps.float(), rtol=0, atol=1e-3)
