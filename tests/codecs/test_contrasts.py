"""Contrasts: exact to invert, orthonormal but for its three scales, and of comparable size on the world it is made for."""

import pytest
import torch

from noisereel.codecs.contrasts import Contrasts
from noisereel.codecs.pixels import Pixels
from noisereel.data.mix import Mix
from noisereel.worlds.pools import Pools


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_decode_inverts_encode() -> None:
    video, codec = random(2, 3, 5, 8, 12), Contrasts()
    latent = codec.encode(video)
    assert latent.shape == (2, codec.channels, 5, 4, 6)
    torch.testing.assert_close(codec.decode(latent), video, rtol=0, atol=1e-5)
    torch.testing.assert_close(codec.encode(codec.decode(latent)), latent, rtol=0, atol=1e-5)


def test_without_scales_it_is_a_rotation_of_each_square() -> None:
    rows = Contrasts(brightness=1, colour=1, details=1).encode(random(64, 3, 2, 8, 8)).movedim(1, -1).reshape(-1, 12)
    assert torch.allclose(rows.T @ rows / len(rows), torch.eye(12), atol=0.08)  # white noise stays white
    video = random(1, 3, 1, 4, 4)
    plain = Contrasts(brightness=1, colour=1, details=1).encode(video)
    torch.testing.assert_close(plain.square().sum(1), Pixels(patch=2).encode(video).square().sum(1))


def test_what_each_channel_tells() -> None:
    grey, red, edge = torch.full((1, 3, 1, 2, 2), 0.5), torch.zeros(1, 3, 1, 2, 2), torch.zeros(1, 3, 1, 2, 2)
    red[:, 0] = 1
    edge[..., 0] = 1  # white on the left, black on the right
    codec = Contrasts(brightness=1, colour=10, details=100)
    for video, told in ((grey, [0]), (red, [0, 1, 2]), (edge, [0, 3])):
        assert codec.encode(video).flatten().abs().gt(1e-5).nonzero().flatten().tolist() == told
    assert codec.encode(grey).flatten()[0] == pytest.approx(0.5 * 2 * 3**0.5)  # two pixels' worth, of three colours
    assert codec.encode(edge).flatten()[3] == pytest.approx(100 * 3**0.5)


def test_brightness_no_longer_drowns_the_rest() -> None:
    images = Mix(images=Pools.open("shapes-small", shape=(8, 32, 32), fps=8.0).images, batch=64)(0).video

    def drowned(codec: Pixels | Contrasts) -> float:
        """The largest principal deviation over the median one."""
        rows = codec.encode(images).movedim(1, -1).reshape(-1, 12)
        deviations = torch.linalg.svdvals(rows)
        return float(deviations[0] / deviations.median())

    assert drowned(Pixels(patch=2)) > 20
    assert drowned(Contrasts()) < 6


def test_an_odd_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"7x8.*multiples of 2"):
        Contrasts().encode(torch.zeros(1, 3, 1, 7, 8))
