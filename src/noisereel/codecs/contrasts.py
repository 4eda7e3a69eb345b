"""Pixels as a codec once more: means and differences of small squares, of brightness and colour, none drowned by the others."""

from __future__ import annotations

from dataclasses import dataclass

from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor

from noisereel.codecs.pixels import Pixels
from noisereel.types import Latent, Video

HALF = 1 / 2
# Of the four pixels of a square, row by row: their mean, and what is right, below and across from it (Haar).
SQUARE = [[HALF, HALF, HALF, HALF], [HALF, -HALF, HALF, -HALF], [HALF, HALF, -HALF, -HALF], [HALF, -HALF, -HALF, HALF]]
# Of red, green and blue: their brightness, and two differences.
COLOUR = [[3**-0.5] * 3, [2**-0.5, -(2**-0.5), 0.0], [6**-0.5, 6**-0.5, -2 * 6**-0.5]]


@dataclass(frozen=True, kw_only=True)
class Contrasts:
    """The codec that keeps everything and changes the proportions: 2x2 pixels become 12 channels of comparable size.

    Nearly all the variance of a square of pixels is its mean brightness, and nearly all that is to be learned is not: folded
    as they are (``Pixels``), colours and edges are a few per cent of every number. Here the square is turned by an orthonormal
    Haar and colour transform, then the mean's ``brightness``, its ``colour`` and all ``details`` are each multiplied by a
    number; the defaults are about the inverse root of their deviation in the shapes world, half the way to whitening.

    Raises:
        ValueError: ``encode`` of a video whose height or width is odd.
    """

    brightness: float = 0.5
    colour: float = 2.0
    details: float = 3.0

    channels: int = 12
    stride: tuple[int, int, int] = (1, 2, 2)
    lead: int = 0

    def encode(self, video: Video) -> Latent:
        squares = Pixels(patch=2).encode(video)
        return einsum(squares, self._turn(squares) * self._scale(squares), "b c t h w, d c -> b d t h w")

    def decode(self, latent: Latent) -> Video:
        squares = einsum(latent, self._turn(latent) / self._scale(latent), "b d t h w, d c -> b c t h w")
        return Pixels(patch=2).decode(squares)

    def _turn(self, like: Tensor) -> Float[Tensor, "d c"]:
        """Orthonormal: from (colour, pixel) to (mean or difference, brightness or colour)."""
        square, colour = like.new_tensor(SQUARE), like.new_tensor(COLOUR)
        return rearrange(einsum(square, colour, "k p, l c -> k l c p"), "k l c p -> (k l) (c p)")

    def _scale(self, like: Tensor) -> Float[Tensor, "d 1"]:
        """How much each row is enlarged."""
        return like.new_tensor([self.brightness, *[self.colour] * 2, *[self.details] * 9])[:, None]
