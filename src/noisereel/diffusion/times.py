"""How times are drawn in training, how the loss is weighted over them, and the ladder of times that sampling climbs down."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from noisereel.diffusion.schedules import Schedule
from noisereel.diffusion.targets import Predicts, clean_weight
from noisereel.types import Level, Rng, Share, Time, Times, rand, randn

DrawTime = Callable[[Rng], Time]  # one time for each generator
Weight = Callable[[Level, Predicts], Times]  # what multiplies the squared error of the network's own target
Spacing = Literal["time", "trailing", "leading", "linspace", "log_snr", "flow_euler", "flow_solver"]


def uniform(rng: Rng) -> Time:
    """Uniform in [0, 1), each sample for itself."""
    return rand(rng)


def stratified(rng: Rng) -> Time:
    """Uniform, with exactly one of the batch's b times in each b-th of [0, 1) (Kingma et al. 2021, appendix I.1).

    One draw moves all: every place in the batch sees all times, and the spread lowers the variance of the loss. It depends on
    the seed of the batch's first sample alone, so that processes that share a batch agree on it. CogVideoX's explicit uniform
    sampling is the same with one interval for each process.
    """
    whole = rng if isinstance(rng, Share) else Share(rng, head=rng[0], start=0, total=len(rng))
    offset = rand([Generator().manual_seed(~whole.head.initial_seed() % 2**63)])
    return (offset + torch.arange(whole.start, whole.start + len(rng)) / whole.total) % 1


def often_all_noise(rng: Rng) -> Time:
    """Pure noise for half of the batch, and stratified times for the other.

    For a stage whose hint says nearly everything: its first estimate, which a single step returns, is learned best.
    """
    return (2 * stratified(rng)).clamp(max=1)


def logit_normal(mean: float = 0.0, std: float = 1.0) -> DrawTime:
    """The sigmoid of a normal variable: more of the middle times (Esser et al. 2024, section 3.1)."""

    def draw(rng: Rng) -> Time:
        return torch.sigmoid(mean + std * randn(rng))

    return draw


def one(level: Level, predicts: Predicts) -> Times:
    """The squared error of the target as it is."""
    return torch.ones_like(level.alpha)


def min_snr(gamma: float = 5.0) -> Weight:
    """The clean video's error counts min(SNR, gamma), whatever is predicted (Hang et al. 2023)."""

    def weight(level: Level, predicts: Predicts) -> Times:
        return clean_weight(level, "eps").clamp(max=gamma) / clean_weight(level, predicts)

    return weight


def truncated_snr(level: Level, predicts: Predicts) -> Times:
    """The clean video's error counts max(SNR, 1), so that it still counts where the SNR is 0 (Salimans & Ho 2022)."""
    return clean_weight(level, "eps").clamp(min=1) / clean_weight(level, predicts)


def like(target: Predicts, limit: float = 400.0) -> Weight:
    """The loss the network would have if it predicted ``target``.

    ``limit`` bounds the weight, which for a network that predicts x0 grows without bound towards clean: 400 stops it at
    sigma = 0.05 for v and flow (Li & He 2025).
    """

    def weight(level: Level, predicts: Predicts) -> Times:
        return (clean_weight(level, target) / clean_weight(level, predicts)).clamp(max=limit)

    return weight


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """The times a sampler visits, from noise to clean, and how noisy each is. In float64."""

    t: Float[Tensor, "s"]
    level: Level


MakeLadder = Callable[[Schedule, int], Ladder]  # schedule, number of steps


def ladder(schedule: Schedule, steps: int, spacing: Spacing = "time", last: float = 0.0) -> Ladder:
    """A ladder of ``steps`` steps (``steps + 1`` times) from pure noise to clean, or to a ``last`` time not quite clean.

    ``time`` is uniform. ``trailing`` is the same rounded to thousandths, the times that networks with 1000 discrete steps
    know; ``leading`` is the older way of Stable Diffusion, which never sees t = 1; ``linspace`` goes from 1 to 0.001.
    ``log_snr`` is uniform in log-SNR between the first and the last thousandth (Lu et al. 2022). ``flow_euler`` and
    ``flow_solver`` are the times of the flow-matching schedulers that diffusers gives to Wan.
    """
    if steps < 1:
        raise ValueError(f"a ladder of {steps} steps leads nowhere; give at least 1")
    with torch.device("cpu"):  # even where a model is being built on the meta device
        return at_times(schedule, torch.cat([_SPACINGS[spacing](schedule, steps), torch.tensor([last], dtype=torch.float64)]))


def at_times(schedule: Schedule, t: Float[Tensor, "s"]) -> Ladder:
    """The ladder of the given descending times. Time 0 is clean, even where the schedule leaves a little noise there."""
    if not bool((t.diff() < 0).all()):
        raise ValueError(f"the times of a ladder must fall from noise to clean, not {t.tolist()}")
    t = t.double()
    level = schedule(t)
    return Ladder(t=t, level=Level(alpha=level.alpha.masked_fill(t == 0, 1), sigma=level.sigma.masked_fill(t == 0, 0)))


def _by_time(schedule: Schedule, steps: int) -> Tensor:
    return 1 - torch.arange(steps, dtype=torch.float64) / steps


def _trailing(schedule: Schedule, steps: int) -> Tensor:
    return (1000 * _by_time(schedule, steps)).round() / 1000


def _leading(schedule: Schedule, steps: int) -> Tensor:
    # Discrete timestep k * (1000 // steps) + 1, which is the time (timestep + 1) / 1000.
    return (torch.arange(steps, dtype=torch.float64).flip(0) * (1000 // steps) + 2) / 1000


def _linspace(schedule: Schedule, steps: int) -> Tensor:
    return (torch.linspace(0, 999, steps, dtype=torch.float64).round().flip(0) + 1) / 1000


def _by_log_snr(schedule: Schedule, steps: int) -> Tensor:
    low, high = schedule(torch.tensor([0.999, 0.001], dtype=torch.float64)).log_snr.tolist()
    times = times_of(schedule, torch.linspace(low, high, steps, dtype=torch.float64))
    return torch.cat([times.new_ones(1), times[1:]])


def _flow_euler(schedule: Schedule, steps: int) -> Tensor:
    # Ends at the noise of the last thousandth; which, being noise already and taken for a time, is shifted once more.
    last = float(schedule(torch.tensor(0.001, dtype=torch.float64)).sigma)
    return torch.linspace(1, last, steps, dtype=torch.float64)


def _flow_solver(schedule: Schedule, steps: int) -> Tensor:
    times = torch.linspace(1, 0.001, steps + 1, dtype=torch.float64)[:-1]
    # A multistep solver steps in log-SNR, so it begins just before the infinite end: at a sigma of 1 - 1e-6, in float32.
    sigma = float(torch.tensor(1 - 1e-6, dtype=torch.float32))
    first = torch.tensor([2 * math.log(1 / sigma - 1)], dtype=torch.float64)
    return torch.cat([times_of(schedule, first), times[1:]])


def times_of(schedule: Schedule, log_snr: Float[Tensor, "s"]) -> Float[Tensor, "s"]:
    """The times at which a schedule has the given log-SNRs."""
    wanted = log_snr.double()
    clean, noise = torch.zeros_like(wanted), torch.ones_like(wanted)
    for _ in range(60):  # bisection to the last bit of float64; the log-SNR falls with time
        middle = (clean + noise) / 2
        noisier = schedule(middle).log_snr < wanted
        clean, noise = torch.where(noisier, clean, middle), torch.where(noisier, middle, noise)
    return noise


_SPACINGS: dict[Spacing, Callable[[Schedule, int], Tensor]] = {
    "time": _by_time,
    "trailing": _trailing,
    "leading": _leading,
    "linspace": _linspace,
    "log_snr": _by_log_snr,
    "flow_euler": _flow_euler,
    "flow_solver": _flow_solver,
}
