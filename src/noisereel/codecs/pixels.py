"""Pixels as a codec: the identity, or an exact fold of small squares of pixels into channels."""

from __future__ import annotations

from dataclasses import dataclass

from einops import rearrange

from noisereel.types import Latent, Video


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """The lossless codec: ``patch`` x ``patch`` pixels become channels (1: the identity).

    Folding is a permutation, so white noise stays white noise and diffusion on the folded video is pixel diffusion;
    the network works on fewer, wider positions (Hoogeboom et al. 2023, section 3.2).

    Raises:
        ValueError: ``encode`` of a video whose height or width is not a multiple of ``patch``.
    """

    patch: int = 1

    @property
    def channels(self) -> int:
        return 3 * self.patch**2

    @property
    def stride(self) -> tuple[int, int, int]:
        return (1, self.patch, self.patch)

    @property
    def lead(self) -> int:
        return 0

    def encode(self, video: Video) -> Latent:
        height, width = video.shape[-2:]
        if height % self.patch or width % self.patch:
            squares = f"{self.patch}x{self.patch} patches; use multiples of {self.patch}"
            raise ValueError(f"a {height}x{width} video does not divide into {squares}")
        return rearrange(video, "b c t (h p) (w q) -> b (c p q) t h w", p=self.patch, q=self.patch)

    def decode(self, latent: Latent) -> Video:
        return rearrange(latent, "b (c p q) t h w -> b c t (h p) (w q)", p=self.patch, q=self.patch)
