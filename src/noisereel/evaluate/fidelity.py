"""How near a video is to the true one: PSNR, SSIM, flicker; and what needs no network, to compare with."""

from __future__ import annotations

from einops import rearrange
from jaxtyping import Float
from torch import Tensor, arange
from torch.nn import functional as F

from noisereel.types import Video

PerVideo = Float[Tensor, " b"]
RANGE = 2.0  # of pixels, from -1 to 1


def psnr(video: Video, truth: Video) -> PerVideo:
    """Peak signal to noise ratio of each video in dB, infinite where it is the truth."""
    error = (video.double().clamp(-1, 1) - truth.double()).square().mean(dim=(1, 2, 3, 4))
    return 10 * (RANGE**2 / error).log10().float()


def ssim(video: Video, truth: Video) -> PerVideo:
    """Structural similarity of each video: the mean over its frames and channels (Wang et al. 2004, eq. 13).

    A Gaussian window of 11 x 11 with a deviation of 1.5, only where it lies within the frame; K1 = 0.01, K2 = 0.03.

    Raises:
        ValueError: frames smaller than the window.
    """
    height, width = video.shape[-2:]
    if min(height, width) < 11:
        raise ValueError(f"SSIM looks through a window of 11x11 pixels: {height}x{width} is too small")
    x, y = (rearrange(one.double().clamp(-1, 1), "b c t h w -> (b c t) 1 h w") for one in (video, truth))
    mean_x, mean_y = _windowed(x), _windowed(y)
    var_x, var_y = _windowed(x * x) - mean_x**2, _windowed(y * y) - mean_y**2
    covariance = _windowed(x * y) - mean_x * mean_y
    c_1, c_2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
    likeness = (2 * mean_x * mean_y + c_1) * (2 * covariance + c_2)
    likeness = likeness / ((mean_x**2 + mean_y**2 + c_1) * (var_x + var_y + c_2))
    return likeness.mean(dim=(1, 2, 3)).unflatten(0, (len(video), -1)).mean(dim=1).float()


def flicker(video: Video, truth: Video) -> PerVideo:
    """How much frames change, over how much the true ones do; not a number where those stand still."""
    changes, true_changes = (one.diff(dim=2).abs().mean(dim=(1, 2, 3, 4)) for one in (video, truth))
    return changes / true_changes


def bicubic(video: Float[Tensor, "b c t _ _"], height: int, width: int) -> Float[Tensor, "b c t {height} {width}"]:
    """The video enlarged, frame by frame."""
    frames = rearrange(video, "b c t h w -> (b t) c h w")
    large = F.interpolate(frames, (height, width), mode="bicubic", align_corners=False).clamp(-1, 1)
    return rearrange(large, "(b t) c h w -> b c t h w", b=len(video))


def repeated(video: Float[Tensor, "b c _ h w"], times: int) -> Float[Tensor, "b c _ h w"]:
    """So many times as many frames, each shown until the next."""
    return video.repeat_interleave(times, dim=2)


def blended(video: Float[Tensor, "b c _ h w"], times: int) -> Float[Tensor, "b c _ h w"]:
    """So many times as many frames, each between two a mixture of them; after the last there is nothing to mix with."""
    before = repeated(video, times)
    after = before.roll(-times, dims=2)
    after[:, :, -times:] = video[:, :, -1:]
    share = (arange(before.shape[2]) % times / times).to(video)
    return before.lerp(after, rearrange(share, "t -> t 1 1"))


def _windowed(maps: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n 1 _ _"]:
    distance = arange(-5, 6).to(maps)
    window = (-(distance**2) / (2 * 1.5**2)).exp()
    window = window / window.sum()
    return F.conv2d(F.conv2d(maps, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
