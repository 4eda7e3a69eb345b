"""Samplers: from noise down a ladder to a clean video, as generators of ``Step``.

A sampler sees one callable, ``(x, t) -> clean x``, and writes each step as a function of the clean estimate, which stays
finite where alpha or sigma is 0. The loop is written once; a sampler is how it advances.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import torch

from noisereel.diffusion.times import Ladder
from noisereel.types import Denoiser, Rng, Step, Video, randn

Sampler = Callable[[Denoiser, Video, Ladder, Rng], Iterator[Step]]


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One time of the ladder."""

    t: float
    alpha: float
    sigma: float

    @property
    def half_log_snr(self) -> float:
        """``log(alpha / sigma)``, the lambda of DPM-Solver; infinite at the ends."""
        if self.alpha == 0:
            return -math.inf
        return math.log(self.alpha / self.sigma) if self.sigma else math.inf


@dataclass(frozen=True, kw_only=True)
class Moment:
    """The state at a rung: the noisy video, and the clean one it is believed to be."""

    at: Rung
    x: Video
    clean: Video

    @property
    def eps(self) -> Video:
        """The noise that ``x`` is believed to hold."""
        return (self.x - self.at.alpha * self.clean) / self.at.sigma


@dataclass(frozen=True, kw_only=True)
class Walk:
    """What a step may use besides its moments: further estimates, and fresh noise."""

    denoiser: Denoiser
    rng: Rng
    rungs: list[Rung]

    def look(self, x: Video, at: Rung) -> Moment:
        """The state of ``x`` at a rung; costs one evaluation."""
        return Moment(at=at, x=x, clean=self.denoiser(x, x.new_full((len(x),), at.t)))

    def noise(self, x: Video) -> Video:
        """Standard normal noise of the shape of ``x``, each sample's from its own generator."""
        return randn(self.rng, *x.shape[1:]).to(x)


# (walk, now, the rung to reach, the moments before, latest first) -> x there. Never called to reach sigma = 0.
Advance = Callable[[Walk, Moment, Rung, list[Moment]], Video]
# (walk, now, the moments before, latest first) -> a better x at the same rung, once the estimate there is known.
Correct = Callable[[Walk, Moment, list[Moment]], Video]


def _descend(
    denoiser: Denoiser, x: Video, ladder: Ladder, rng: Rng, *, advance: Advance, correct: Correct | None = None
) -> Iterator[Step]:
    rows = zip(ladder.t.tolist(), ladder.level.alpha.tolist(), ladder.level.sigma.tolist(), strict=True)
    rungs = [Rung(t=t, alpha=alpha, sigma=sigma) for t, alpha, sigma in rows]
    walk = Walk(denoiser=denoiser, rng=rng, rungs=rungs)
    before: list[Moment] = []
    for index, (here, there) in enumerate(pairwise(rungs)):
        with torch.no_grad():  # not around the loop: it would hold in the caller's code between the steps
            now = walk.look(x, here)
            if correct is not None and before:
                now = replace(now, x=correct(walk, now, before))
            # A clean rung has room for one answer only, and there every formula would need a limit.
            x = advance(walk, now, there, before) if there.sigma else now.clean
        before = [now, *before[:2]]
        yield Step(index=index, total=len(rungs) - 1, t=there.t, x=x, clean=now.clean)


def ancestral(*, gamma: float = 0.0, corrector: bool = False, delta: float = 0.1) -> Sampler:
    """The reverse of the noising process, step by step (VDM eq. 4).

    ``gamma`` interpolates the logarithm of the variance between its bounds: 0 is DDPM's "fixed small", 1 its "fixed
    large". ``corrector`` adds a Langevin step of size ``delta`` after each (VDM eq. 5), which doubles the evaluations.
    """
    return partial(_descend, advance=partial(_ancestral, gamma=gamma, delta=delta if corrector else 0.0))


def _ancestral(walk: Walk, now: Moment, to: Rung, before: list[Moment], *, gamma: float, delta: float) -> Video:
    decay = _snr_ratio(now.at, to)
    mean = now.at.alpha * to.sigma**2 / (now.at.sigma**2 * to.alpha) * now.x + (1 - decay) * to.alpha * now.clean
    deviation = math.sqrt(1 - decay) * to.sigma ** (1 - gamma) * now.at.sigma**gamma
    x = mean + deviation * walk.noise(now.x)
    return _langevin(walk, walk.look(x, to), delta) if delta else x


def _langevin(walk: Walk, now: Moment, delta: float) -> Video:
    sigma = now.at.sigma
    return now.x - delta / 2 * sigma * now.eps + math.sqrt(delta) * sigma * walk.noise(now.x)


def ddim(*, eta: float = 0.0) -> Sampler:
    """Keeps the believed noise and rescales (Song et al. 2021); on a rectified schedule this is Euler's method.

    ``eta`` = 1 replaces as much of the noise by fresh noise as the ancestral sampler does.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta is the share of fresh noise, from 0 to 1, not {eta}")
    return partial(_descend, advance=partial(_ddim, eta=eta))


def _ddim(walk: Walk, now: Moment, to: Rung, before: list[Moment], *, eta: float) -> Video:
    fresh = eta * math.sqrt(1 - _snr_ratio(now.at, to)) * to.sigma
    x = to.alpha * now.clean + math.sqrt(to.sigma**2 - fresh**2) * now.eps
    return x + fresh * walk.noise(x) if fresh else x


def overshoot() -> Sampler:
    """Goes on to the rung after the next as DDIM does, and comes back from there by adding noise.

    What is believed of the noise is partly forgotten so, which does few and large steps good (Imagen Video, section 2.7).
    """
    return partial(_descend, advance=_overshoot)


def _overshoot(walk: Walk, now: Moment, to: Rung, before: list[Moment]) -> Video:
    beyond = walk.rungs[walk.rungs.index(to) + 1]
    x = _ddim(walk, now, beyond, before, eta=0.0)
    share = to.alpha / beyond.alpha
    return share * x + math.sqrt(to.sigma**2 - (share * beyond.sigma) ** 2) * walk.noise(x)


def plms() -> Sampler:
    """Fourth-order Adams-Bashforth on the believed noise, the sampler of Stable Diffusion 1 (Liu et al. 2022, PNDM, eq. 12).

    The first step is Heun's, so ``steps`` take one evaluation more.
    """
    return partial(_descend, advance=_plms)


# Of the estimates now and before, latest first, by how many there are.
_ADAMS_BASHFORTH = {2: (3 / 2, -1 / 2), 3: (23 / 12, -16 / 12, 5 / 12), 4: (55 / 24, -59 / 24, 37 / 24, -9 / 24)}


def _plms(walk: Walk, now: Moment, to: Rung, before: list[Moment]) -> Video:
    if before:
        moments = [now, *before]
        eps = sum(weight * moment.eps for weight, moment in zip(_ADAMS_BASHFORTH[len(moments)], moments, strict=True))
    else:
        eps = (now.eps + walk.look(_ddim(walk, now, to, before, eta=0.0), to).eps) / 2
    return _ddim(walk, replace(now, clean=(now.x - now.at.sigma * eps) / now.at.alpha), to, before, eta=0.0)


def heun() -> Sampler:
    """The trapezoid rule, second order for two evaluations a step (Karras et al. 2022, algorithm 1, without churn)."""
    return partial(_descend, advance=_heun)


def _heun(walk: Walk, now: Moment, to: Rung, before: list[Moment]) -> Video:
    x = _ddim(walk, now, to, before, eta=0.0)
    then = walk.look(x, to)
    # In z = x / (alpha + sigma) against tau = sigma / (alpha + sigma) every schedule is the straight line dz/dtau = eps - x0,
    # finite also where alpha = 0. x holds the slope at ``now``; half of the change of slope is what is missing.
    change = (then.eps - then.clean) - (now.eps - now.clean)
    return x + (to.alpha + to.sigma) * (_straight_time(to) - _straight_time(now.at)) / 2 * change


def dpmpp_2m() -> Sampler:
    """DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2): DDIM towards an extrapolated clean video, second order."""
    return partial(_descend, advance=_dpmpp_2m)


def _dpmpp_2m(walk: Walk, now: Moment, to: Rung, before: list[Moment]) -> Video:
    return _ddim(walk, _extrapolated(now, to, before), to, before, eta=0.0)


def dpmpp_2m_sde() -> Sampler:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022b): the same extrapolation in the ancestral step, noise included."""
    return partial(_descend, advance=_dpmpp_2m_sde)


def _dpmpp_2m_sde(walk: Walk, now: Moment, to: Rung, before: list[Moment]) -> Video:
    return _ancestral(walk, _extrapolated(now, to, before), to, before, gamma=0.0, delta=0.0)


def unipc() -> Sampler:
    """UniPC of order 2 with B2(h) (Zhao et al. 2023): DPM-Solver++(2M), each step corrected by the next step's estimate."""
    return partial(_descend, advance=_dpmpp_2m, correct=_unipc_correct)


def _unipc_correct(walk: Walk, now: Moment, before: list[Moment]) -> Video:
    last = before[0]
    if len(before) == 1:
        clean = (last.clean + now.clean) / 2
    else:
        h = now.at.half_log_snr - last.at.half_log_snr
        older = (before[1].at.half_log_snr - last.at.half_log_snr) / h  # where the oldest estimate lies; last is 0, now 1
        # Weights that make the step exact for estimates quadratic in the half log-SNR.
        b_1 = 1 / math.expm1(-h) * (math.expm1(-h) / -h - 1)
        b_2 = 2 / math.expm1(-h) * ((math.expm1(-h) / -h - 1) / -h - 1 / 2)
        weight_older = (b_2 - b_1) / (older - 1)
        weight_now = b_1 - weight_older
        clean = last.clean + weight_older / older * (before[1].clean - last.clean) + weight_now * (now.clean - last.clean)
    return _ddim(walk, replace(last, clean=clean), now.at, [], eta=0.0)


def _extrapolated(now: Moment, to: Rung, before: list[Moment]) -> Moment:
    """``now`` believing in the clean video that the last two estimates point to halfway to the next rung."""
    if not before:
        return now
    h = to.half_log_snr - now.at.half_log_snr
    h_before = now.at.half_log_snr - before[0].at.half_log_snr  # infinite from alpha = 0, and then nothing is added
    return replace(now, clean=now.clean + h / h_before / 2 * (now.clean - before[0].clean))


def _straight_time(at: Rung) -> float:
    return at.sigma / (at.alpha + at.sigma)


def _snr_ratio(noisy: Rung, clean: Rung) -> float:
    """``exp(lambda_t - lambda_s)`` for s before t: 0 where nothing of the signal is left at t."""
    return (noisy.alpha * clean.sigma / (noisy.sigma * clean.alpha)) ** 2
