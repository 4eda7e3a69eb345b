"""The adversary of an autoencoder: a network that tells true clips from reconstructed ones, patch by patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import spectral_norm

from noisereel.types import Video

Patches = Float[Tensor, "b _ _ _"]


class PatchDiscriminator(nn.Module):
    """A logit for every patch of space and time, positive where it looks true (Isola et al. 2017, with 3-D convolutions).

    Every layer halves height and width, all but the first halve time too. The first and the last frame are their own
    neighbours, so that an image is judged as a video that stands still. Spectral normalisation bounds how steep the network is
    (Miyato et al. 2018).
    """

    def __init__(self, *, width: int = 32, depth: int = 3) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(width=width, depth=depth)
        widths = [3, *(width * 2**level for level in range(depth))]
        self.convs = nn.ModuleList(
            nn.Conv3d(widths[level], widths[level + 1], (3, 4, 4), stride=(2 if level else 1, 2, 2), padding=(0, 1, 1))
            for level in range(depth)
        )
        self.logit = nn.Conv3d(widths[-1], 1, 3, padding=(0, 1, 1))
        for conv in (*self.convs, self.logit):
            spectral_norm(conv)

    def forward(self, video: Video) -> Patches:
        x = video.contiguous(memory_format=torch.channels_last_3d)
        for conv in self.convs:
            x = F.leaky_relu(conv(_with_neighbours(x)), 0.2)
        return rearrange(self.logit(_with_neighbours(x)), "b 1 t h w -> b t h w")


def _with_neighbours(x: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t2 h w"]:
    # Not by the convolution's padding: one frame of few channels, padded so, gives memory never written in bf16 (PyTorch 2.13).
    return torch.cat([x[:, :, :1], x, x[:, :, -1:]], dim=2)


@dataclass(frozen=True, kw_only=True, eq=False)
class Adversary:
    """A discriminator that learns beside the autoencoder, and how strongly the autoencoder heeds it.

    Both terms of the game stand in one loss: the autoencoder's sees the discriminator's weights detached, the discriminator's
    sees the reconstruction detached, so that one backward pass and one optimiser do what two loops would.
    """

    net: nn.Module  # Video -> Patches
    weight: float = 0.2
    adaptive: bool = True  # the weight is in units of the gradient of the reconstruction errors, see ``weigh``
    learning_rate: float | None = None  # of the discriminator; the phase's own when None

    def terms(self, video: Video, truth: Video) -> dict[str, Float[Tensor, ""]]:
        """The hinge loss (Lim and Ye 2017) of either side; the reconstruction comes from ``heard``."""
        frozen = {name: parameter.detach() for name, parameter in self.net.named_parameters()}
        judged = functional_call(self.net, frozen, (video,))
        true, made = self.net(torch.cat([truth, video.detach()])).float().chunk(2)
        return {"adversary": -judged.float().mean(), "discriminator": 0.5 * (F.relu(1 - true).mean() + F.relu(1 + made).mean())}

    def heard(self, video: Video) -> tuple[Video, Video]:
        """The reconstruction twice: for its errors, and for this adversary, whose gradient is weighted as it comes back."""
        return _Weighed.apply(video, self.weight, self.adaptive)


class _Weighed(torch.autograd.Function):
    """The identity, twice; on the way back the second gradient is multiplied by the weight.

    An adaptive weight is in units of the first gradient's length over the second's (Esser et al. 2021, eq. 7). The paper takes
    the lengths at the weights of the decoder's last layer, by two more backward passes; at what that layer gives they are free.
    """

    @staticmethod
    def forward(ctx: Any, video: Tensor, weight: float, adaptive: bool) -> tuple[Tensor, Tensor]:
        ctx.weight, ctx.adaptive = weight, adaptive
        return video.view_as(video), video.view_as(video)

    @staticmethod
    def backward(ctx: Any, errors: Tensor, adversary: Tensor) -> tuple[Tensor, None, None]:
        weight = ctx.weight
        if ctx.adaptive:
            weight = weight * errors.norm() / adversary.norm().clamp(min=torch.finfo(adversary.dtype).tiny)
        return errors + weight * adversary, None, None
