"""Tiles: the whole frame again wherever the codec does not look past a tile's edge."""

from __future__ import annotations

import pytest
import torch

from noisereel.codecs.causal_vae import CausalVAE
from noisereel.codecs.pixels import Pixels
from noisereel.codecs.tiled import Tiled
from noisereel.types import Codec


def test_tiles_of_pixels_are_the_frame() -> None:
    video = torch.randn(2, 3, 2, 40, 28)
    codec = Tiled(codec=Pixels(patch=2), tile=16, overlap=6)
    assert isinstance(codec, Codec)
    latent = codec.encode(video)
    torch.testing.assert_close(latent, Pixels(patch=2).encode(video))
    torch.testing.assert_close(codec.decode(latent), video)


def test_what_is_far_from_every_edge_is_that_of_the_whole() -> None:
    torch.manual_seed(0)
    vae = CausalVAE(widths=(8, 8), halve=("thw",), latent_channels=4, patch=2, blocks=1, attention=False).eval()
    for parameter in vae.parameters():
        parameter.data.add_(torch.randn(parameter.shape) * 0.1)
    codec = Tiled(codec=vae, tile=128, overlap=64)
    latent = torch.randn(1, 4, 2, 48, 16)  # 192 x 64 pixels: two tiles, which meet from row 64 to 127
    video = torch.rand(1, 3, 3, 192, 64)
    with torch.no_grad():
        for whole, tiled, edge in (
            (vae.decode(latent), codec.decode(latent), 64),
            (vae.encode(video), codec.encode(video), 16),
        ):
            torch.testing.assert_close(tiled[..., :edge, :], whole[..., :edge, :])
            torch.testing.assert_close(tiled[..., 2 * edge :, :], whole[..., 2 * edge :, :])
            between = tiled[..., edge : 2 * edge, :] - whole[..., edge : 2 * edge, :]
            assert 0 < between.norm() < 0.5 * whole.norm()


def test_one_tile_is_the_whole() -> None:
    vae = CausalVAE(widths=(8, 8), halve=("thw",), latent_channels=4, blocks=1)
    video = torch.rand(1, 3, 3, 16, 24)
    with torch.no_grad():
        assert torch.equal(Tiled(codec=vae, tile=64, overlap=16).encode(video), vae.encode(video))


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [
        (30, 4, "tile=30 will not do: the codec takes multiples of 4"),
        (32, 6, "overlap=6 will not do: the codec takes multiples of 4"),
        (32, 20, "overlap=20 will not do: use from 0 to half of the tile, 16"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tile: int, overlap: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tiled(codec=Pixels(patch=4), tile=tile, overlap=overlap)
