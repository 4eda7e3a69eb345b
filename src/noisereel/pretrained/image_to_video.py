"""What CogVideoX and Wan are given of the first frame of a video: extra channels, in latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from noisereel.types import Codec, Hint, Rng, Video


@dataclass(frozen=True, kw_only=True)
class FirstLatent:
    """The latents of the first frame, and zeros for all others (CogVideoX).

    ``scale`` multiplies them: CogVideoX 1.5 was trained with image latents that its codec's scale divides, by mistake.
    ``spare`` frames at the end make up for those that a patch of several frames needs.
    """

    codec: Codec
    scale: float = 1.0
    spare: int = 0

    @property
    def channels(self) -> int:
        return self.codec.channels

    def from_clip(self, video: Video, rng: Rng) -> Hint:
        """The hint for a clip."""
        latent = self.scale * self.codec.encode(video[:, :, :1])
        frames = self.spare + (video.shape[2] - 1) // self.codec.stride[0]
        return Hint(channels=F.pad(latent, (0, 0, 0, 0, 0, frames)))

    def from_previous(self, video: Video, rng: Rng) -> Hint:
        """The hint for a video of which the first frame is known."""
        return self.from_clip(video, rng)


@dataclass(frozen=True, kw_only=True)
class MaskedLatents:
    """A channel for each frame that a latent frame stands for, 1 where that is known; and latents of a video, grey but for
    its first frame (Wan, section 4.1 of its report).
    """

    codec: Codec

    @property
    def channels(self) -> int:
        return self.codec.stride[0] + self.codec.channels

    def from_clip(self, video: Video, rng: Rng) -> Hint:
        """The hint for a clip."""
        grey = torch.zeros_like(video)
        grey[:, :, 0] = video[:, :, 0]
        latent = self.codec.encode(grey)
        mask = latent.new_zeros(len(latent), self.codec.stride[0], *latent.shape[2:])
        mask[:, :, 0] = 1
        return Hint(channels=torch.cat([mask, latent], dim=1))

    def from_previous(self, video: Video, rng: Rng) -> Hint:
        """The hint for a video of which the first frame is known."""
        return self.from_clip(video, rng)
