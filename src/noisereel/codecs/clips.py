"""Each clip of a sample encoded apart: a codec that looks back in time must not look from one clip into another."""

from __future__ import annotations

from itertools import pairwise

import torch

from noisereel.types import Codec, Groups, Latent, Video


def encode_clips(codec: Codec, video: Video, groups: Groups | None) -> tuple[Latent, Groups | None]:
    """The latents of a batch, and the clip that each latent frame belongs to.

    Raises:
        ValueError: the clips of one sample do not begin where those of another do.
    """
    if groups is None or codec.stride[0] == 1:  # one clip, or frames that are encoded one by one anyhow
        return codec.encode(video), groups
    cuts = clip_starts(groups)
    latents = [codec.encode(video[:, :, start:stop]) for start, stop in pairwise(cuts)]
    numbers = [groups[:, start, None].expand(-1, z.shape[2]) for start, z in zip(cuts, latents, strict=False)]
    return torch.cat(latents, dim=2), torch.cat(numbers, dim=1)


def clip_starts(groups: Groups) -> list[int]:
    """The first frame of each clip, and the end of the last one.

    Raises:
        ValueError: the clips of one sample do not begin where those of another do.
    """
    changes = groups[:, 1:] != groups[:, :-1]
    if not bool((changes == changes[:1]).all()):
        raise ValueError("the clips of a batch's samples begin at different frames: put samples of one layout in a batch")
    return [0, *(int(frame) + 1 for frame in changes[0].nonzero()), groups.shape[1]]
