"""Group normalisation over the frames of a chunk, as CogVideoX has it: what makes its chunks differ from the whole."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from noisereel.codecs.causal import Chunk, Maps, Pointwise, in_time

PerChannel = Float[Tensor, "b c"]
PerCell = Float[Tensor, "b c cells_t cells_h cells_w"]


class ChunkNorm(nn.GroupNorm):
    """Group normalisation over all frames of the chunk, then an optional SiLU.

    With ``latent_channels``, channels are then scaled and shifted by what the latent says of that place and time (Zheng
    et al. 2022, "MoVQ", equation 5).
    """

    def __init__(self, groups: int, latent_channels: int, width: int) -> None:
        super().__init__(groups, width, eps=1e-6)
        self.scale = Pointwise(latent_channels, width) if latent_channels else None
        self.shift = Pointwise(latent_channels, width) if latent_channels else None

    def forward(  # type: ignore[override]
        self, x: Maps, chunk: Chunk, silu: bool = True, out: Maps | None = None
    ) -> Maps:
        """``out`` takes the result, where no gradient is wanted."""
        scale, shift = (rearrange(values, "b c -> b c 1 1 1") for values in self._folded(x))
        if self.scale is not None and self.shift is not None:
            assert chunk.latent is not None
            by = self.scale(chunk.latent)
            scale, shift = scale * by, torch.addcmul(self.shift(chunk.latent), shift, by)
        y = _spread(x, scale.to(x.dtype), shift.to(x.dtype), chunk.first, out)
        return F.silu(y, inplace=out is not None) if silu else y

    def _folded(self, x: Maps) -> tuple[PerChannel, PerChannel]:
        """Normalisation and its weights as one scale and one shift for each channel."""
        mean, variance = _statistics(x) if torch.is_grad_enabled() else _fast_statistics(x)
        groups = "b (g n) -> b g n"
        mean, variance = (rearrange(values, groups, g=self.num_groups) for values in (mean, variance))
        variance = variance.mean(2) + mean.var(2, correction=0)
        inverse = repeat((variance + self.eps).rsqrt(), "b g -> b (g n)", n=mean.shape[2])
        scale = inverse * self.weight
        return scale, self.bias - repeat(mean.mean(2), "b g -> b (g n)", n=mean.shape[2]) * scale


def _statistics(x: Maps) -> tuple[PerChannel, PerChannel]:
    """Mean and variance of each channel over the frames and pixels of the chunk."""
    variance, mean = torch.var_mean(x.float(), dim=(2, 3, 4), correction=0)
    return mean, variance


def _fast_statistics(x: Maps) -> tuple[PerChannel, PerChannel]:
    """The same by a routine without a gradient, that reads channels-last memory twenty times as fast on a CPU.

    It adds up one number after the other, which loses digits over many: so each column of pixels is added up by itself.
    """
    found = []
    for sample in x:
        columns = rearrange(sample, "c t h w -> (t h) (w c)")
        blank = columns.new_zeros(columns.shape[1], dtype=torch.float32)  # in fp32, for a result in fp32
        mean, variance = torch.batch_norm_update_stats(columns, blank, blank.clone(), 0.0)
        mean, variance = (rearrange(values, "(w c) -> w c", c=len(sample)) for values in (mean, variance))
        found.append((mean.mean(0), variance.mean(0) + mean.var(0, correction=0)))
    means, variances = zip(*found, strict=True)
    return torch.stack(means), torch.stack(variances)


def _spread(x: Maps, scale: PerCell, shift: PerCell, first: bool, out: Maps | None) -> Maps:
    """``scale * x + shift``, of which each value serves all the pixels and frames that a latent pixel stands for."""
    if first and scale.shape[2] > 1:  # the first frame has a latent frame of its own
        parts = [
            _spread(x[:, :, part], scale[:, :, part], shift[:, :, part], False, None if out is None else out[:, :, part])
            for part in (slice(0, 1), slice(1, None))
        ]
        return in_time(*parts) if out is None else out
    cells = "b c (t i) (h p) (w q) -> b t i h p w q c"
    sizes = dict(zip("thw", scale.shape[2:], strict=True))
    scale, shift = (rearrange(values, "b c t h w -> b t 1 h 1 w 1 c") for values in (scale, shift))
    to = None if out is None else rearrange(out, cells, **sizes)
    y = torch.addcmul(shift, rearrange(x, cells, **sizes), scale, out=to)
    return rearrange(y, "b t i h p w q c -> b c (t i) (h p) (w q)") if out is None else out
