"""Group normalisation over the frames of a chunk, as CogVideoX has it: what makes its chunks differ from the whole."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor, nn

from noisereel.codecs.causal import Chunk, Maps, Pointwise

Places = Float[Tensor, "b t h w c"]
PerChannel = Float[Tensor, "b c"]


class ChunkNorm(nn.GroupNorm):
    """Group normalisation over all frames of the chunk, then an optional SiLU.

    With ``latent_channels``, channels are then scaled and shifted by what the latent says of that place and time (Zheng
    et al. 2022, "MoVQ", equation 5).
    """

    def __init__(self, groups: int, latent_channels: int, width: int) -> None:
        super().__init__(groups, width, eps=1e-6)
        self.scale = Pointwise(latent_channels, width) if latent_channels else None
        self.shift = Pointwise(latent_channels, width) if latent_channels else None

    def forward(self, x: Maps, chunk: Chunk, silu: bool = True) -> Maps:  # type: ignore[override]
        scale, shift = self._folded(x)
        scale, shift = rearrange(scale, "b c -> b 1 1 1 c"), rearrange(shift, "b c -> b 1 1 1 c")
        if self.scale is not None and self.shift is not None:
            assert chunk.latent is not None
            by, to = (rearrange(conv(chunk.latent), "b c t h w -> b t h w c") for conv in (self.scale, self.shift))
            scale, shift = scale * by, torch.addcmul(to, shift, by)
        y = _spread(rearrange(x, "b c t h w -> b t h w c"), scale.to(x.dtype), shift.to(x.dtype), chunk.first)
        y = F.silu(y, inplace=not torch.is_grad_enabled()) if silu else y
        return rearrange(y, "b t h w c -> b c t h w")

    def _folded(self, x: Maps) -> tuple[PerChannel, PerChannel]:
        """Normalisation and its weights as one scale and one shift for each channel."""
        groups = rearrange(x, "b (g c) t h w -> b g c t h w", g=self.num_groups)
        variance, mean = torch.var_mean(groups.float(), dim=(2, 3, 4, 5), correction=0)
        inverse = (variance + self.eps).rsqrt()
        scale = repeat(inverse, "b g -> b (g n)", n=x.shape[1] // self.num_groups) * self.weight
        return scale, self.bias - repeat(mean, "b g -> b (g n)", n=x.shape[1] // self.num_groups) * scale


def _spread(x: Places, scale: Places, shift: Places, first: bool) -> Places:
    """``scale * x + shift``, of which each value serves all the pixels and frames that a latent pixel stands for."""
    if first and scale.shape[1] > 1:  # the first frame has a latent frame of its own
        parts = [_spread(x[:, part], scale[:, part], shift[:, part], False) for part in (slice(0, 1), slice(1, None))]
        return torch.cat(parts, dim=1)
    _, t, h, w, _ = scale.shape
    cells = rearrange(x, "b (t i) (h p) (w q) c -> b t i h p w q c", t=t, h=h, w=w)
    scale, shift = (rearrange(values, "b t h w c -> b t 1 h 1 w 1 c") for values in (scale, shift))
    return rearrange(torch.addcmul(shift, cells, scale), "b t i h p w q c -> b (t i) (h p) (w q) c")
