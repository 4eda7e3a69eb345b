"""Guidance: functions that make a denoiser out of denoisers. A sampler cannot tell the difference.

A scale follows the convention in which 1 is no guidance: null + scale * (conditional - null).
"""

from __future__ import annotations

from collections.abc import Callable

from noisereel.types import Denoiser, Time, Video

Guide = Callable[[Denoiser, Denoiser], Denoiser]  # conditional, unconditional -> guided


def cfg(scale: float) -> Guide:
    """Classifier-free guidance (Ho & Salimans 2022). Scale 1 never calls the unconditional denoiser."""

    def guide(cond: Denoiser, null: Denoiser) -> Denoiser:
        def denoise(x: Video, t: Time) -> Video:
            without = null(x, t)
            return without + scale * (cond(x, t) - without)

        return cond if scale == 1 else denoise

    return guide
