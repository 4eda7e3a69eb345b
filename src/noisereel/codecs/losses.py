"""What an autoencoder is measured by: the divergence of its posterior, and errors of its reconstruction."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from noisereel.types import Latent, Video

FewerFrames = Float[Tensor, "b c _ h w"]


def divergence(mean: Latent, logvar: Latent) -> Float[Tensor, "b"]:
    """How far N(mean, exp(logvar)) is from N(0, 1): the mean over latent numbers, in nats.

    Kingma and Welling 2014, appendix B.
    """
    mean, logvar = mean.float(), logvar.float()
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean((1, 2, 3, 4))


def psnr(video: Video, truth: Video) -> Float[Tensor, "b"]:
    """The peak signal-to-noise ratio of each clip in dB; values in [-1, 1] have a peak of 2."""
    error = (video.float() - truth.float()).square().mean((1, 2, 3, 4))
    return 10 * torch.log10(4 / error)


def change(video: Video) -> FewerFrames:
    """What each frame adds to the one before it; an image, which has none before it, adds no frame."""
    return video[:, :, 1:] - video[:, :, :-1]
