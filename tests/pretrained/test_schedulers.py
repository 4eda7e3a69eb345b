"""Every scheduler that can be opened makes the steps of diffusers' own, from the same configuration on disk."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from noisereel.pretrained.schedulers import CONFIG, SCHEDULERS, open_scheduler
from noisereel.types import Cond, Times, Video, generators, randn

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs, on numpy 2

STABLE = dict(beta_start=8.5e-4, beta_end=0.012, beta_schedule="scaled_linear")
COGVIDEOX = STABLE | dict(prediction_type="v_prediction", timestep_spacing="trailing", rescale_betas_zero_snr=True)
WAN = dict(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "stable diffusion 1": ("PNDMScheduler", STABLE | dict(skip_prk_steps=True, steps_offset=1)),
    "stable diffusion 2": (
        "DDIMScheduler",
        STABLE | dict(prediction_type="v_prediction", steps_offset=1, set_alpha_to_one=False, clip_sample=False),
    ),
    "text-to-video-sd": ("DDIMScheduler", STABLE | dict(steps_offset=1, clip_sample=False)),
    "cogvideox 2b": ("CogVideoXDDIMScheduler", COGVIDEOX | dict(snr_shift_scale=3.0)),
    "cogvideox 5b": ("CogVideoXDPMScheduler", COGVIDEOX | dict(snr_shift_scale=1.0)),
    "wan": ("UniPCMultistepScheduler", WAN),
    "wan, euler": ("FlowMatchEulerDiscreteScheduler", dict(shift=5.0)),
}


def network(x: Tensor, told: Tensor) -> Tensor:
    """Depends on the time, in thousandths."""
    return 0.7 * torch.tanh(x) + 0.1 * torch.cos(told / 300).reshape(-1, 1, 1, 1, 1)


def theirs(scheduler: Any, steps: int, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Where a scheduler ends; in each step it draws what our sampler draws in that step."""
    scheduler.set_timesteps(steps)
    rng = generators(1, [0])
    x, clean, before = randn(generators(0, [0]), 2, 3, 4, 4), None, None
    for t in scheduler.timesteps:
        out = network(x, t[None].float())
        if type(scheduler).__name__ == "CogVideoXDPMScheduler":  # draws twice and leaves the first
            noise = randn(rng, *x.shape[1:])
            monkeypatch.setattr(f"{type(scheduler).__module__}.randn_tensor", lambda *_, noise=noise, **__: noise)
            x, clean = scheduler.step(out, clean, t, before, x)
        else:
            x = scheduler.step(out, t, x, return_dict=False)[0]
        before = t
    return x


@pytest.mark.parametrize("steps", [4, 10])
@pytest.mark.parametrize("case", CASES)
def test_the_same_steps(case: str, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, options = CASES[case]
    scheduler = getattr(diffusers, name)(**options)
    scheduler.save_pretrained(tmp_path)
    scheduling = open_scheduler(tmp_path)

    def net(x: Video, t: Times, cond: Cond) -> Video:
        return network(x, 1000 * t)

    denoiser = scheduling.diffusion.denoiser(net, Cond())
    rungs = scheduling.rungs(scheduling.diffusion.schedule, steps)
    *_, step = scheduling.sampler(denoiser, randn(generators(0, [0]), 2, 3, 4, 4), rungs, generators(1, [0]))
    torch.testing.assert_close(step.x, theirs(scheduler, steps, monkeypatch), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_field_of_the_class_is_known(name: str) -> None:
    """The defaults here are the defaults there."""
    scheduler = getattr(diffusers, name)()
    defaults, _ = SCHEDULERS[name]
    for field, value in scheduler.config.items():
        if not field.startswith("_"):
            assert defaults[field] == value, field


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("KDPM2DiscreteScheduler", {}, "holds a KDPM2DiscreteScheduler; the schedulers that can be opened are DDIM"),
        ("DDIMScheduler", {"new_field": 1}, "unknown fields new_field"),
        ("DDIMScheduler", {"timestep_spacing": "trailing"}, "clip_sample=True is not supported, only with False"),
        ("UniPCMultistepScheduler", {}, "prediction_type='epsilon' is not supported, only with 'flow_prediction'"),
        ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True}, "use_dynamic_shifting=True"),
        ("CogVideoXDDIMScheduler", {"beta_schedule": "squaredcos_cap_v2"}, "only with 'linear' or 'scaled_linear'"),
    ],
)
def test_what_we_cannot_express_is_refused(name: str, changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_text(json.dumps({"_class_name": name, **changes}))
    with pytest.raises(ValueError, match=told) as caught:
        open_scheduler(tmp_path)
    assert "\n" not in str(caught.value)


def test_fields_left_over_from_another_scheduler_do_no_harm(tmp_path: Path) -> None:
    config = dict(_class_name="CogVideoXDDIMScheduler", **COGVIDEOX, skip_prk_steps=True, solver_order=3)
    (tmp_path / CONFIG).write_text(json.dumps(config))
    assert open_scheduler(tmp_path).diffusion.predicts == "v"
