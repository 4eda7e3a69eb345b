import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from noisereel.evaluate.fidelity import bicubic, blended, flicker, psnr, repeated, ssim


def video(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(2, 3, *shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_psnr_of_a_known_error() -> None:
    truth = torch.zeros(2, 3, 2, 12, 12)
    noisy = truth + torch.tensor([0.2, 0.02])[:, None, None, None, None]
    assert psnr(noisy, truth).tolist() == pytest.approx([20.0, 40.0], abs=1e-4), "2 over a tenth of it, and a hundredth"
    assert psnr(truth, truth).tolist() == [float("inf")] * 2
    assert psnr(truth + 5, truth + 1).tolist() == [float("inf")] * 2, "what a file cannot hold is cut off"


def reference(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2004 by scipy's Gaussian filter, cut to 11 x 11, without the border: what scikit-image computes."""

    def mean(z: np.ndarray) -> np.ndarray:
        return gaussian_filter(z, 1.5, truncate=3.5)

    c_1, c_2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    m_x, m_y = mean(x), mean(y)
    v_x, v_y, v_xy = mean(x * x) - m_x**2, mean(y * y) - m_y**2, mean(x * y) - m_x * m_y
    values = ((2 * m_x * m_y + c_1) * (2 * v_xy + c_2)) / ((m_x**2 + m_y**2 + c_1) * (v_x + v_y + c_2))
    return float(values[5:-5, 5:-5].mean())


def test_ssim_is_that_of_its_authors() -> None:
    truth = video(0, 2, 20, 17)
    noisy = (0.7 * truth + 0.3 * video(1, 2, 20, 17)).clamp(-1, 1)
    wanted = [
        np.mean(
            [reference(noisy[i, c, t].double().numpy(), truth[i, c, t].double().numpy()) for c in range(3) for t in range(2)]
        )
        for i in range(2)
    ]
    assert ssim(noisy, truth).tolist() == pytest.approx(wanted, abs=1e-6)
    assert ssim(truth, truth).tolist() == pytest.approx([1, 1])
    with pytest.raises(ValueError, match="10x17 is too small"):
        ssim(truth[..., :10, :], truth[..., :10, :])


def test_ssim_agrees_with_scikit_image() -> None:
    metrics = pytest.importorskip("skimage.metrics")
    truth, other = video(0, 1, 24, 19), video(1, 1, 24, 19)
    noisy = (0.8 * truth + 0.2 * other).clamp(-1, 1)
    settings = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=2.0, channel_axis=0)
    wanted = [
        metrics.structural_similarity(n[:, 0].numpy(), t[:, 0].numpy(), **settings) for n, t in zip(noisy, truth, strict=True)
    ]
    assert ssim(noisy, truth).tolist() == pytest.approx(wanted, abs=1e-5)


def test_flicker_is_change_over_true_change() -> None:
    truth = video(0, 5, 4, 4)
    assert flicker(0.5 * truth, truth).tolist() == pytest.approx([0.5, 0.5])


def test_the_simple_ways_to_more_frames_and_pixels() -> None:
    ramp = torch.arange(3.0).view(1, 1, 3, 1, 1).expand(1, 3, 3, 4, 4)
    assert repeated(ramp, 2)[0, 0, :, 0, 0].tolist() == [0, 0, 1, 1, 2, 2]
    assert blended(ramp, 2)[0, 0, :, 0, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2]
    assert blended(ramp, 4)[0, 0, :, 0, 0].tolist() == [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2, 2, 2]
    flat = torch.full((1, 3, 2, 5, 6), 0.3)
    assert torch.allclose(bicubic(flat, 20, 24), torch.full((1, 3, 2, 20, 24), 0.3))
