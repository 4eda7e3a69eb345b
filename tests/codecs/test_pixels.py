"""Folding pixels is a permutation: exact to invert, and white noise stays white."""

import pytest
import torch

from noisereel.codecs.pixels import Pixels


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_decode_inverts_encode_exactly(patch: int) -> None:
    video = torch.randn(2, 3, 5, 8, 12, generator=torch.Generator().manual_seed(0))
    codec = Pixels(patch=patch)
    latent = codec.encode(video)
    assert latent.shape == (2, codec.channels, 5, 8 // codec.stride[1], 12 // codec.stride[2])
    assert codec.stride[0] == 1
    assert torch.equal(codec.decode(latent), video)


def test_patch_one_is_the_identity() -> None:
    video = torch.rand(1, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Pixels().encode(video), video)


def test_every_pixel_goes_to_one_place() -> None:
    video = torch.arange(3 * 4 * 4.0).reshape(1, 3, 1, 4, 4)
    assert torch.equal(Pixels(patch=2).encode(video).flatten().sort().values, video.flatten())


def test_a_position_of_the_latent_is_one_square_of_pixels() -> None:
    video = torch.zeros(1, 3, 1, 4, 4)
    video[..., 2:, :2] = 1
    latent = Pixels(patch=2).encode(video)
    assert torch.equal(latent.mean(1).squeeze(), torch.tensor([[0.0, 0.0], [1.0, 0.0]]))


def test_white_noise_stays_white() -> None:
    noise = torch.randn(64, 3, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    rows = Pixels(patch=2).encode(noise).movedim(1, -1).reshape(-1, 12)
    covariance = rows.T @ rows / len(rows)
    assert torch.allclose(covariance, torch.eye(12), atol=0.08)  # five standard errors of 4,096 rows


@pytest.mark.parametrize(("height", "width"), [(7, 8), (8, 6)])
def test_a_size_that_does_not_divide_is_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"{height}x{width}.*multiples of 4"):
        Pixels(patch=4).encode(torch.zeros(1, 3, 1, height, width))
