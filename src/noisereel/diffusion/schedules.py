"""Noise schedules: time to ``Level(alpha, sigma)``, with one shift of the log-SNR for all of them.

Every schedule is finite everywhere: where nothing is left of the signal alpha is exactly 0, where there is no noise sigma
is exactly 0, and no logarithm is taken on the way. The arithmetic is in float64; the result has the dtype of the times.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from noisereel.types import Level


@runtime_checkable
class Schedule(Protocol):
    """How noisy a video is at each time, from 0 (clean) to 1 (noise)."""

    def __call__(self, t: Float[Tensor, "*time"]) -> Level: ...


def flow_shift(s: float) -> float:
    """The log-SNR shift of a flow model's "shift" s: sigma -> s sigma / (1 + (s - 1) sigma), which is SNR / s**2."""
    return -2 * math.log(s)


def snr_shift(s: float) -> float:
    """The log-SNR shift of CogVideoX's ``snr_shift_scale`` s, which is SNR / s."""
    return -math.log(s)


def spread(level: Level) -> Level:
    """The level of each sample, or of each frame of each sample, shaped to multiply a video."""
    shape = "b -> b 1 1 1 1" if level.alpha.ndim == 1 else "b t -> b 1 t 1 1"
    return Level(alpha=rearrange(level.alpha, shape), sigma=rearrange(level.sigma, shape))


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Variance-preserving, the angle of (alpha, sigma) linear in time (VDM, Imagen Video; Kingma et al. 2021).

    The log-SNR runs from ``log_snr_max`` at t = 0 to ``log_snr_min`` at t = 1; infinite ends are exact.
    """

    log_snr_min: float = -20.0
    log_snr_max: float = 20.0
    shift: float = 0.0

    def __call__(self, t: Float[Tensor, "*time"]) -> Level:
        clean, noise = (math.atan(math.exp(-log_snr / 2)) for log_snr in (self.log_snr_max, self.log_snr_min))
        level = _on_circle((1 - t.double()) * clean + t.double() * noise)
        ratio = math.exp(self.shift / 2)
        scale = torch.hypot(ratio * level.alpha, level.sigma)
        return _cast(ratio * level.alpha / scale, level.sigma / scale, t)


@dataclass(frozen=True, kw_only=True)
class LinearBeta:
    """The DDPM family made continuous: t = k / steps is the discrete index k - 1, and t = 0 is clean.

    ``scaled`` makes the square root of beta linear (Stable Diffusion, CogVideoX) instead of beta. ``shift`` comes before
    the rescaling to zero terminal SNR (Lin et al. 2023, algorithm 1), the order of CogVideoX. Between indices the log-SNR
    is linear; where one end of the interval is infinite, the angle of (alpha, sigma) is.
    """

    steps: int = 1000
    start: float = 1e-4
    end: float = 0.02
    scaled: bool = False
    shift: float = 0.0
    zero_terminal: bool = False

    def __call__(self, t: Float[Tensor, "*time"]) -> Level:
        position = t.double() * self.steps
        index = position.long().clamp(0, self.steps - 1)
        part = position - index
        table = self._log_snr.to(t.device)
        low, high = table[index], table[index + 1]
        inside = low.isfinite() & high.isfinite()
        angle = torch.where(inside, _angle(torch.lerp(low, high, part)), torch.lerp(_angle(low), _angle(high), part))
        level = _on_circle(angle)
        return _cast(level.alpha, level.sigma, t)

    @cached_property
    def _log_snr(self) -> Float[Tensor, "k"]:
        power = 2 if self.scaled else 1
        start, end = self.start ** (1 / power), self.end ** (1 / power)
        # On the CPU even where a model is being built on the meta device: the table outlives that.
        beta = torch.linspace(start, end, self.steps, dtype=torch.float64, device="cpu") ** power
        log_snr = torch.logit((1 - beta).cumprod(0)) + self.shift
        if self.zero_terminal:
            alpha = log_snr.sigmoid().sqrt()
            alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
            log_snr = torch.logit(alpha**2)
        return torch.cat([log_snr.new_full((1,), math.inf), log_snr])


@dataclass(frozen=True, kw_only=True)
class Rectified:
    """The straight line from data to noise, alpha = 1 - sigma, sigma = t before the shift (rectified flow, Liu et al. 2022)."""

    shift: float = 0.0

    def __call__(self, t: Float[Tensor, "*time"]) -> Level:
        time = t.double()
        ratio = math.exp(self.shift / 2)
        scale = ratio * (1 - time) + time
        return _cast(ratio * (1 - time) / scale, time / scale, t)


def _angle(log_snr: Tensor) -> Tensor:
    """0 where there is only signal, pi / 2 where there is only noise."""
    return torch.atan(torch.exp(-log_snr / 2))


def _on_circle(angle: Tensor) -> Level:
    # Not cos(angle), which is 6e-17 at pi / 2 where alpha must be 0.
    return Level(alpha=torch.sin(math.pi / 2 - angle), sigma=torch.sin(angle))


def _cast(alpha: Tensor, sigma: Tensor, like: Tensor) -> Level:
    return Level(alpha=alpha.to(like.dtype), sigma=sigma.to(like.dtype))
