"""Guidance: functions that make a denoiser out of denoisers. A sampler cannot tell the difference.

A guide takes the conditional and the unconditional denoiser (or, as autoguidance, a good and a bad one). Scales follow the
convention in which 1 is no guidance, ``null + scale * (cond - null)``; papers by Ho write w = scale - 1. Everything acts on
the estimate of the clean video, where plain guidance is the same as on any other target.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from einops import rearrange, reduce
from jaxtyping import Bool, Float
from torch import Tensor

from noisereel.diffusion.schedules import Schedule, spread
from noisereel.diffusion.times import Ladder
from noisereel.types import Denoiser, Rng, Time, Times, Video, randn

Guide = Callable[[Denoiser, Denoiser], Denoiser]  # conditional, unconditional -> guided
PerSample = Float[Tensor, "b 1 1 1 1"]


def cfg(scale: float) -> Guide:
    """Classifier-free guidance (Ho & Salimans 2022). Scale 1 never calls the unconditional denoiser."""
    return _scaled(lambda t: scale)


def oscillate(high: float, low: float, constant_steps: int, ladder: Ladder) -> Guide:
    """Oscillating guidance: ``high`` for ``constant_steps``, then high and low in turn (Imagen Video)."""

    def scale_at(t: float) -> float:
        after = _step_of(ladder, t) - constant_steps
        return high if after < 0 or after % 2 == 0 else low

    return _scaled(scale_at)


def rise(scale: float, ladder: Ladder) -> Guide:
    """CogVideoX's dynamic guidance: from no guidance up to 1 + ``scale``, late, as a cosine of the fifth power of progress."""

    def scale_at(t: float) -> float:
        progress = _step_of(ladder, t) / (len(ladder.t) - 1)
        return 1 + scale * (1 - math.cos(math.pi * progress**5)) / 2

    return _scaled(scale_at)


def thresholded(guide: Guide, quantile: float = 0.995) -> Guide:
    """Dynamic thresholding of what a guide makes, see ``clip_dynamic``: high scales without saturation."""
    return lambda cond, null: clip_dynamic(guide(cond, null), quantile)


def interval(guide: Guide, low: float, high: float) -> Guide:
    """Guides only at times from ``low`` to ``high``; elsewhere the conditional denoiser alone (Kynkäänniemi et al. 2024)."""

    def apply(cond: Denoiser, null: Denoiser) -> Denoiser:
        guided = guide(cond, null)

        def denoise(x: Video, t: Time) -> Video:
            return guided(x, t) if low <= _common(t) <= high else cond(x, t)

        return denoise

    return apply


def rescale(guide: Guide, phi: float) -> Guide:
    """Pulls each sample's standard deviation back by ``phi`` to the unguided one (Lin et al. 2023, eq. 15 and 16).

    Needed with zero terminal SNR, where guidance overexposes; 0.7 there.
    """

    def apply(cond: Denoiser, null: Denoiser) -> Denoiser:
        once = _Once(cond)
        guided = guide(once, null)

        def denoise(x: Video, t: Time) -> Video:
            out = guided(x, t)
            ratio = _per_sample(torch.std, once(x, t)) / _per_sample(torch.std, out)
            return out * (1 + phi * (ratio - 1))

        return denoise

    return apply


def apg(scale: float, *, eta: float = 0.0, norm: float = math.inf, momentum: float = 0.0) -> Guide:
    """Adaptive projected guidance: high scales without saturation (Sadat et al. 2024, algorithm 1).

    The difference to the unconditional estimate is averaged over the steps with (negative) ``momentum``, shortened to a
    Euclidean ``norm``, and of its part along the conditional estimate, which saturates, only ``eta`` is kept.
    """

    def apply(cond: Denoiser, null: Denoiser) -> Denoiser:
        average: Tensor | float = 0.0  # of this sampling: a guide is applied anew to every video

        def denoise(x: Video, t: Time) -> Video:
            nonlocal average
            with_text = cond(x, t)
            change = with_text - null(x, t) + momentum * average
            average = change.detach()
            change = change * (norm / _per_sample(torch.linalg.vector_norm, change)).clamp(max=1)
            along = _projected(change, with_text)
            return with_text + (scale - 1) * (change - along + eta * along)

        return cond if scale == 1 else denoise

    return apply


def cfg_zero(schedule: Schedule, scale: float, zero_steps: int, ladder: Ladder) -> Guide:
    """CFG-Zero* (Fan et al. 2025): guides from the unconditional velocity scaled to fit the conditional one.

    For ``zero_steps`` steps of the ladder the velocity is zero, because an undertrained flow is worse than none there.
    """

    def apply(cond: Denoiser, null: Denoiser) -> Denoiser:
        def denoise(x: Video, t: Time) -> Video:
            level = spread(schedule(t))
            total = level.alpha + level.sigma
            if _step_of(ladder, _common(t)) < zero_steps:
                return x / total
            # The velocity eps - x0, and back.
            with_text, without = ((x - total * denoiser(x, t)) / level.sigma for denoiser in (cond, null))
            without = _projected(with_text, without)
            return (x - level.sigma * (without + scale * (with_text - without))) / total

        return denoise

    return apply


def clip_static(denoiser: Denoiser) -> Denoiser:
    """Keeps the clean estimate in [-1, 1]."""

    def denoise(x: Video, t: Time) -> Video:
        return denoiser(x, t).clamp(-1, 1)

    return denoise


def clip_dynamic(denoiser: Denoiser, quantile: float = 0.995) -> Denoiser:
    """Shrinks each sample into [-1, 1] by a ``quantile`` of its absolute values, where that is over 1 (Imagen, section 2.3)."""
    if not 0 < quantile <= 1:
        raise ValueError(f"a quantile of {quantile} is not between 0 (excluded) and 1")

    def denoise(x: Video, t: Time) -> Video:
        clean = denoiser(x, t)
        sizes = rearrange(clean.abs(), "b c t h w -> b (c t h w)")
        limit = sizes.kthvalue(math.ceil(quantile * sizes.shape[1]), dim=1).values.clamp(min=1)
        limit = rearrange(limit, "b -> b 1 1 1 1")
        return clean.clamp(-limit, limit) / limit

    return denoise


Mask = Bool[Tensor, "#b 1 #t #h #w"]  # True where the clean video is known
Operator = Callable[[Video], Tensor]  # linear, differentiable: what is known of a clean video


def hold(denoiser: Denoiser, clean: Video, known: Bool[Tensor, t]) -> Denoiser:
    """Let a network that was trained with known frames at time 0 see those of ``clean``, and keep them.

    One network continues, animates and interpolates so, without extra channels (Chen et al. 2024, diffusion forcing).
    """

    def denoise(x: Video, t: Time) -> Video:
        seen = torch.where(known[:, None, None], clean, x)
        return torch.where(known[:, None, None], clean, denoiser(seen, t[:, None].masked_fill(known, 0)))

    return denoise


def reconstruct(
    denoiser: Denoiser, schedule: Schedule, known: Tensor, seen: Mask | Operator, weight: float, rng: Rng
) -> Denoiser:
    """Reconstruction guidance (VDM, section 3.1): agrees with what is known, by a network that was never trained for it.

    ``seen`` is a mask of what is known (the last frames of a clip to extend, every n-th to fill between; ``known`` is then
    a whole video, of which the rest is not looked at), or the operator that made ``known`` from a clean video (down-sampling,
    for super-resolution). What a mask covers is replaced by ``known`` noised anew at each call: the replacement method,
    which is all that happens at ``weight`` 0. The rest of the estimate moves against the gradient of the squared error of
    what is known. To agree with several things at once, nest the wrappers.
    """
    if not isinstance(seen, Tensor):
        operator = seen
        return _pulled(denoiser, schedule, lambda clean: operator(clean) - known, weight)
    mask = seen
    pulled = _pulled(denoiser, schedule, lambda clean: torch.where(mask, clean - known, 0), weight)

    def denoise(x: Video, t: Time) -> Video:
        level = spread(schedule(t))
        noised = level.alpha * known + level.sigma * randn(rng, *x.shape[1:]).to(x)
        return torch.where(mask, known, pulled(torch.where(mask, noised, x), t))

    return denoise


def _pulled(denoiser: Denoiser, schedule: Schedule, error: Operator, weight: float) -> Denoiser:
    """The estimate less ``weight * alpha / 2`` times the gradient by x of its squared error."""

    def denoise(x: Video, t: Time) -> Video:
        nested = x.requires_grad  # then the outer wrapper differentiates through this one
        with torch.enable_grad():
            x = x if nested else x.detach().requires_grad_()
            clean = denoiser(x, t)
            (gradient,) = torch.autograd.grad(error(clean).square().sum(), x, retain_graph=nested)
        return (clean if nested else clean.detach()) - weight / 2 * spread(schedule(t)).alpha * gradient

    return denoise if weight else denoiser


def _scaled(scale_at: Callable[[float], float]) -> Guide:
    """Classifier-free guidance whose scale depends on the time."""

    def apply(cond: Denoiser, null: Denoiser) -> Denoiser:
        def denoise(x: Video, t: Times) -> Video:
            scales = [scale_at(time) for time in t.reshape(len(t), -1).amax(1).tolist()]
            if all(scale == 1 for scale in scales):
                return cond(x, t)
            without = null(x, t)
            # One number in sampling, where a batch goes down one ladder together; distillation is at several times at once.
            scale = scales[0] if len(set(scales)) == 1 else rearrange(x.new_tensor(scales), "b -> b 1 1 1 1")
            return without + scale * (cond(x, t) - without)

        return denoise

    return apply


class _Once:
    """A denoiser that remembers its last answer: to ask again about the same x costs nothing."""

    def __init__(self, denoiser: Denoiser) -> None:
        self._denoiser = denoiser
        self._asked: tuple[Tensor | None, Tensor | None] = (None, None)

    def __call__(self, x: Video, t: Time) -> Video:
        if self._asked[0] is not x or self._asked[1] is not t:
            self._asked, self._answer = (x, t), self._denoiser(x, t)
        return self._answer


def _common(t: Times) -> float:
    """The one time of all samples, of known frames aside: in sampling a batch goes down one ladder together."""
    return float(t[0].max())


def _step_of(ladder: Ladder, t: float) -> int:
    return int((ladder.t - t).abs().argmin())


def _projected(video: Video, onto: Video) -> Video:
    """The part of each sample along another; zero along nothing."""
    product, square = (reduce(onto * other, "b c t h w -> b 1 1 1 1", "sum") for other in (video, onto))
    return product / square.clamp(min=torch.finfo(square.dtype).tiny) * onto


def _per_sample(measure: Callable[..., Tensor], video: Video) -> PerSample:
    return measure(video, dim=(1, 2, 3, 4), keepdim=True)
