"""The schedulers of diffusers in our terms: a process, a sampler, and the times it visits.

A scheduler there is all three at once. Where theirs steps to another noise level than the one it looks at next (DDIM with
steps whose number does not divide 1000, or are spaced "linspace"), ours goes where it looks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from noisereel.checkpoint import read_json
from noisereel.diffusion.process import Diffusion, Predicts
from noisereel.diffusion.samplers import Sampler, ddim, dpmpp_2m_sde, plms, unipc
from noisereel.diffusion.schedules import LinearBeta, Rectified, flow_shift, snr_shift
from noisereel.diffusion.times import MakeLadder, ladder
from noisereel.pretrained.folder import Config, complete, expect

CONFIG = "scheduler_config.json"
PREDICTS: dict[str, Predicts] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v", "flow_prediction": "flow"}


@dataclass(frozen=True, kw_only=True)
class Scheduling:
    """What a scheduler stands for; the fields are those of a stage."""

    diffusion: Diffusion
    sampler: Sampler
    rungs: MakeLadder


def open_scheduler(folder: Path) -> Scheduling:
    """A scheduler by its folder.

    Raises:
        ValueError: a class, a field or a value that we cannot express.
    """
    written = read_json(folder / CONFIG)
    name = str(written.get("_class_name"))
    if name not in SCHEDULERS:
        raise ValueError(f"{folder} holds a {name}; the schedulers that can be opened are {', '.join(SCHEDULERS)}")
    defaults, read = SCHEDULERS[name]
    return read(complete(written, defaults, folder / CONFIG, also=LEFTOVERS), f"the scheduler {folder / CONFIG}")


def _ddim(config: Config, where: str) -> Scheduling:
    expect(config, dict(clip_sample=False, thresholding=False), where)
    return _discrete(config, where, ddim())


def _plms(config: Config, where: str) -> Scheduling:
    expect(config, dict(skip_prk_steps=True, timestep_spacing="leading"), where)
    return _discrete(config, where, plms())


def _cogvideox(sampler: Sampler) -> Reader:
    # Its schedulers take clip_sample and do nothing with it.
    return lambda config, where: _discrete(config, where, sampler, shift=snr_shift(config["snr_shift_scale"]))


def _discrete(config: Config, where: str, sampler: Sampler, shift: float = 0.0) -> Scheduling:
    """A network of 1000 discrete noise levels."""
    legal = dict(
        num_train_timesteps=1000,
        trained_betas=None,
        beta_schedule=("linear", "scaled_linear"),
        prediction_type=("epsilon", "sample", "v_prediction"),
        timestep_spacing=("trailing", "leading", "linspace"),
    )
    expect(config, legal, where)
    if config["timestep_spacing"] == "leading":
        expect(config, dict(steps_offset=1), where)
    schedule = LinearBeta(
        start=config["beta_start"],
        end=config["beta_end"],
        scaled=config["beta_schedule"] == "scaled_linear",
        shift=shift,
        zero_terminal=config["rescale_betas_zero_snr"],
    )
    last = 0.0 if config["set_alpha_to_one"] else 0.001
    return Scheduling(
        diffusion=Diffusion(schedule=schedule, predicts=PREDICTS[config["prediction_type"]], tells="index"),
        sampler=sampler,
        rungs=partial(ladder, spacing=config["timestep_spacing"], last=last),
    )


def _unipc(config: Config, where: str) -> Scheduling:
    legal = dict(
        num_train_timesteps=1000, solver_order=2, solver_type="bh2", prediction_type="flow_prediction", use_flow_sigmas=True,
        predict_x0=True, lower_order_final=True, disable_corrector=[], solver_p=None, final_sigmas_type="zero",
    )  # fmt: skip
    expect(config, legal | dict(thresholding=False, use_dynamic_shifting=False, shift_terminal=None) | ORDINARY_SIGMAS, where)
    return _flow(config["flow_shift"], unipc(), "flow_solver", "whole_sigma")


def _euler(config: Config, where: str) -> Scheduling:
    legal = dict(num_train_timesteps=1000, use_dynamic_shifting=False, invert_sigmas=False, stochastic_sampling=False)
    expect(config, legal | dict(shift_terminal=None) | ORDINARY_SIGMAS, where)
    return _flow(config["shift"], ddim(), "flow_euler", "sigma")


def _flow(shift: float, sampler: Sampler, spacing: Any, tells: Any) -> Scheduling:
    return Scheduling(
        diffusion=Diffusion(schedule=Rectified(shift=flow_shift(shift)), predicts="flow", tells=tells),
        sampler=sampler,
        rungs=partial(ladder, spacing=spacing),
    )


Reader = Callable[[Config, str], Scheduling]

ORDINARY_SIGMAS = dict(use_karras_sigmas=False, use_exponential_sigmas=False, use_beta_sigmas=False)
BETAS: Config = dict(
    num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear", trained_betas=None, steps_offset=0,
    prediction_type="epsilon", timestep_spacing="leading", set_alpha_to_one=True, rescale_betas_zero_snr=False,
)  # fmt: skip
CLIPPING: Config = dict(
    clip_sample=True, clip_sample_range=1.0, sample_max_value=1.0, thresholding=False, dynamic_thresholding_ratio=0.995
)
COGVIDEOX: Config = {
    **BETAS, **CLIPPING, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "snr_shift_scale": 3.0,
}  # fmt: skip
UNIPC: Config = {
    **BETAS, **CLIPPING, **ORDINARY_SIGMAS, "solver_order": 2, "predict_x0": True, "solver_type": "bh2", "solver_p": None,
    "lower_order_final": True, "disable_corrector": [], "use_flow_sigmas": False, "flow_shift": 1.0,
    "final_sigmas_type": "zero", "use_dynamic_shifting": False, "time_shift_type": "exponential", "sigma_min": None,
    "sigma_max": None, "shift_terminal": None, "timestep_spacing": "linspace",
}  # fmt: skip
EULER: Config = {
    **ORDINARY_SIGMAS, "num_train_timesteps": 1000, "shift": 1.0, "use_dynamic_shifting": False, "base_shift": 0.5,
    "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096, "invert_sigmas": False, "shift_terminal": None,
    "time_shift_type": "exponential", "stochastic_sampling": False,
}  # fmt: skip

# For each class its fields with their defaults, and how they are read.
SCHEDULERS: dict[str, tuple[Config, Reader]] = {
    "DDIMScheduler": ({**BETAS, **CLIPPING}, _ddim),
    "PNDMScheduler": ({**BETAS, "set_alpha_to_one": False, "skip_prk_steps": False}, _plms),
    "CogVideoXDDIMScheduler": (COGVIDEOX, _cogvideox(ddim())),
    "CogVideoXDPMScheduler": (COGVIDEOX, _cogvideox(dpmpp_2m_sde())),
    "UniPCMultistepScheduler": (UNIPC, _unipc),
    "FlowMatchEulerDiscreteScheduler": (EULER, _euler),
}
# A pipeline that changed its scheduler keeps fields of the old one, which the new one does not read.
LEFTOVERS = frozenset(name for defaults, _ in SCHEDULERS.values() for name in defaults)
