"""A diffusion process: a schedule, what the network predicts, and how it is trained and read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from einops import reduce
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from noisereel.diffusion.schedules import Schedule, spread
from noisereel.diffusion.targets import PREDICTS as PREDICTS
from noisereel.diffusion.targets import Predicts as Predicts
from noisereel.diffusion.times import DrawTime, Weight, one, uniform
from noisereel.types import Cond, Denoiser, Rng, Times, Video, randn

Tells = Literal["time", "log_snr", "index", "sigma", "whole_sigma"]

# What a network is told of the noise: the time; the log-SNR from 20 to -20 as 0 to 1; the number, from 0, of a discrete step
# of 1000, the first of which is at t = 0.001; sigma; and sigma's whole thousandths, which Wan's sampler tells.
TELLS: Mapping[Tells, Callable[[Schedule, Times], Times]] = {
    "time": lambda schedule, t: t,
    "log_snr": lambda schedule, t: ((20 - schedule(t).log_snr) / 40).clamp(0, 1),
    "index": lambda schedule, t: (t - 0.001).clamp(min=0),
    "sigma": lambda schedule, t: schedule(t).sigma,
    "whole_sigma": lambda schedule, t: (1000 * schedule(t).sigma.double() + 1e-4).floor().to(t) / 1000,
}

Network = Callable[[Video, Times, Cond], Video]  # noisy video, what it is told of the noise, conditions -> prediction


@dataclass(frozen=True, kw_only=True)
class Diffusion:
    """Everything between a clean video and a network, in both directions.

    ``tells`` is the number a network is given for the noise, see ``TELLS``.
    """

    schedule: Schedule
    predicts: Predicts = "v"
    draw: DrawTime = uniform
    weight: Weight = one
    tells: Tells = "time"

    def __post_init__(self) -> None:
        if self.predicts == "eps" and self.schedule(torch.ones(1, device="cpu")).alpha == 0:
            raise ValueError(
                f"eps says nothing about the video at t = 1, where {self.schedule} leaves no signal; predict v, x0 or flow"
            )

    def noise(self, x0: Video, t: Times, eps: Video) -> Video:
        """``x0`` noised to time ``t``."""
        level = spread(self.schedule(t))
        return level.alpha * x0 + level.sigma * eps

    def target(self, x0: Video, eps: Video, t: Times) -> Video:
        """What the network should answer."""
        a, b = PREDICTS[self.predicts](spread(self.schedule(t)))
        return a * x0 + b * eps

    def clean(self, x: Video, out: Video, t: Times) -> Video:
        """The clean video that the answer ``out`` at noisy ``x`` stands for.

        Solves x = alpha * x0 + sigma * eps, out = a * x0 + b * eps for x0.
        """
        level = spread(self.schedule(t))
        a, b = PREDICTS[self.predicts](level)
        determinant = level.alpha * b - a * level.sigma
        # Without noise x alone says what x0 is; the system is singular there when the target is x0 itself.
        noiseless = level.sigma == 0
        of_x = torch.where(noiseless, 1 / level.alpha, b / determinant)
        of_out = torch.where(noiseless, 0.0, -level.sigma / determinant)
        return of_x * x + of_out * out

    def loss(
        self, net: Network, x0: Video, cond: Cond, rng: Rng, known: Bool[Tensor, "b t"] | None = None
    ) -> Float[Tensor, "b"]:
        """The weighted squared error of each sample at times and with noise drawn from its own generator.

        ``known`` frames are shown as they are, at time 0, and asked nothing about.
        """
        t = self.draw(rng)
        return self.loss_at(net, x0, cond, t if known is None else t[:, None].masked_fill(known, 0), rng)

    def loss_at(self, net: Network, x0: Video, cond: Cond, t: Times, rng: Rng) -> Float[Tensor, "b"]:
        """The same at given times; of times for each frame, those that are 0 say which frames are known."""
        t = t.to(x0.device)
        eps = randn(rng, *x0.shape[1:]) if x0.device.type == "cpu" else noise_on_device(x0, rng)
        out = net(self.noise(x0, t, eps), self.tell(t), cond)
        error = out.float() - self.target(x0, eps, t).float()
        weight = self.weight(self.schedule(t), self.predicts)
        if t.ndim == 1:
            return weight * reduce(error**2, "b c t h w -> b", "mean")
        asked = weight * (t > 0)
        return (asked * reduce(error**2, "b c t h w -> b t", "mean")).sum(1) / (t > 0).sum(1).clamp(min=1)

    def denoiser(self, net: Network, cond: Cond) -> Denoiser:
        """The network as an estimate of the clean video, in float32."""

        def denoise(x: Video, t: Times) -> Video:
            return self.clean(x, net(x, self.tell(t), cond).float(), t)

        return denoise

    def tell(self, t: Times) -> Times:
        """The number the network is given for time ``t``, in [0, 1] and rising with the noise."""
        return TELLS[self.tells](self.schedule, t)


def noise_on_device(x0: Video, rng: Rng) -> Video:
    """Training noise drawn where ``x0`` is, each sample's from its own generator by way of a seed.

    A CPU draws normal numbers more slowly than an accelerator trains on them. Unlike ``randn`` it differs between devices.
    """
    eps = torch.empty_like(x0, dtype=torch.float32)
    local = Generator(x0.device)
    for row, generator in zip(eps, rng, strict=True):
        row.normal_(generator=local.manual_seed(int(torch.randint(2**62, (), generator=generator))))
    return eps
