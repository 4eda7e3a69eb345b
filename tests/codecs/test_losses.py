"""Measures against their closed forms."""

import math

import pytest
import torch

from noisereel.codecs.losses import change, divergence, psnr


def test_the_divergence_of_the_prior_is_nothing() -> None:
    zero = torch.zeros(2, 4, 1, 3, 3)
    assert torch.equal(divergence(zero, zero), torch.zeros(2))


def test_the_divergence_is_that_of_two_normals() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, logvar = torch.randn(2, 2, 4, 3, 5, 5, generator=generator, dtype=torch.float64).unbind()
    normal, prior = torch.distributions.Normal(mean, (logvar / 2).exp()), torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(normal, prior).mean((1, 2, 3, 4))
    torch.testing.assert_close(divergence(mean, logvar).double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("error", [2.0, 0.2, 0.002])
def test_psnr_of_a_known_error(error: float) -> None:
    truth = torch.zeros(2, 3, 2, 4, 4)
    wrong = torch.full_like(truth, error)
    wrong[1] = 2  # the peak: 0 dB
    torch.testing.assert_close(psnr(wrong, truth), torch.tensor([20 * math.log10(2 / error), 0.0]), rtol=1e-5, atol=1e-5)


def test_psnr_of_bf16_is_not_rounded_to_bf16() -> None:
    video = torch.rand(1, 3, 2, 4, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    torch.testing.assert_close(psnr(video, video * 0.5), psnr(video.float(), (video * 0.5).float()), rtol=0, atol=0)


def test_change_is_from_each_frame_to_the_next() -> None:
    video = torch.arange(5.0).square().reshape(1, 1, 5, 1, 1)
    assert change(video).flatten().tolist() == [1, 3, 5, 7]
    assert change(video[:, :, :1]).numel() == 0
