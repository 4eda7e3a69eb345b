"""What a stage is given besides noise: a low-resolution video, or some of its frames; and the dropping of captions.

Temporal and spatial super-resolution, frame interpolation, prediction, extension and image-to-video are one idea: extra
input channels. Each ``Given`` makes them twice, from the clean clip in training and from the stage before in sampling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from noisereel.diffusion.schedules import Cosine, Schedule
from noisereel.types import Groups, Hint, Rng, Time, Video, rand, randn

Small = Float[Tensor, "b c _ _ _"]  # a video of fewer frames or pixels than the one beside it
Which = Callable[[int, Rng], Bool[Tensor, "b t"]]  # number of frames -> which of them are known


@dataclass(frozen=True, kw_only=True)
class LowRes:
    """A smaller video, enlarged to the stage's size: super-resolution in time, in space, or both.

    In training the low-resolution video is noised to a random level up to ``noise`` and the level is told to the network, so
    that the artefacts of the stage before do no harm (conditioning augmentation, Ho et al. 2022, section 2.5);
    in sampling it is noised to ``sample_noise``.
    """

    size: tuple[int, int, int]  # frames, height, width of the stage's own video
    time: int = 1
    space: int = 1
    noise: float = 0.0  # time on ``schedule``, 0 clean .. 1 noise
    sample_noise: float = 0.0
    schedule: Schedule = field(default_factory=Cosine)
    channels: int = 3

    def __post_init__(self) -> None:
        if self.time < 1 or self.space < 1:
            raise ValueError(f"LowRes enlarges by whole factors of at least 1, not time={self.time}, space={self.space}")

    def from_clip(self, video: Video, rng: Rng) -> Hint:
        """The hint for a clean clip: made small, enlarged again, noised to a random level."""
        frames, height, width = video.shape[-3:]
        if height % self.space or width % self.space:
            raise ValueError(f"{height}x{width} pixels cannot be made {self.space} times fewer; use multiples of {self.space}")
        small = resize(video[:, :, :: self.time], height // self.space, width // self.space)
        return self._augment(self._enlarge(small, (frames, height, width)), self.noise * rand(rng), rng)

    def from_previous(self, video: Video, rng: Rng) -> Hint:
        """The hint for a video of the stage before: enlarged, noised to the fixed level of sampling."""
        return self._augment(self._enlarge(video, self.size), torch.full((len(rng),), self.sample_noise), rng)

    def _enlarge(self, small: Small, size: tuple[int, int, int]) -> Video:
        # Frames are repeated: a frame stands for the moments until the next one (Imagen Video, section 2.3).
        frames, height, width = size
        repeated = small.repeat_interleave(self.time, dim=2)[:, :, :frames]
        return resize(repeated, height, width)

    def _augment(self, video: Video, level: Time, rng: Rng) -> Hint:
        level = level.to(video.device)
        signal = self.schedule(level)
        noise = randn(rng, *video.shape[1:]).to(video)
        shape = (-1, 1, 1, 1, 1)
        return Hint(channels=signal.alpha.reshape(shape) * video + signal.sigma.reshape(shape) * noise, noise=level)


@dataclass(frozen=True, kw_only=True)
class KnownFrames:
    """Some frames of the clip itself, zeros elsewhere, and a channel that says which.

    Interpolation, prediction, extension and image-to-video differ only in ``which``.

    Make-A-Video, section 3.3 (the masked frame interpolation network); Video LDM, section 3.2.
    """

    which: Which
    video_channels: int = 3

    @property
    def channels(self) -> int:
        return self.video_channels + 1

    def from_clip(self, video: Video, rng: Rng) -> Hint:
        """The hint for a clean clip: its known frames and the mask."""
        known = self.which(video.shape[2], rng).to(video.device)[:, None, :, None, None]
        mask = known.expand(-1, -1, -1, *video.shape[-2:])
        return Hint(channels=torch.cat([video * known, mask.to(video)], dim=1))

    def from_previous(self, video: Video, rng: Rng) -> Hint:
        """The hint for a video that already lies on the stage's time axis; frames that are not known may hold anything."""
        return self.from_clip(video, rng)


def every(stride: int) -> Which:
    """Every ``stride``-th frame is known, from the first on: interpolation."""
    return lambda frames, rng: (torch.arange(frames) % stride == 0).expand(len(rng), frames)


def first(count: int) -> Which:
    """The first ``count`` frames are known: prediction, extension, image-to-video."""
    return lambda frames, rng: (torch.arange(frames) < count).expand(len(rng), frames)


def some_first(frames: int, groups: Groups | None, rate: float, rng: Rng) -> Bool[Tensor, "b t"]:
    """Which frames are known: with probability ``rate`` the first few of a sample's first clip, never all of it.

    What a stage is trained with that shall continue videos and animate images (see ``diffusion.guidance.hold``).
    """
    chosen, share = rand(rng, 2).unbind(1)
    first = torch.full((len(rng),), frames) if groups is None else (groups == groups[:, :1]).sum(1).cpu()
    count = torch.where(chosen < rate, 1 + (share * (first - 1)).long(), 0).clamp(max=first - 1)
    return torch.arange(frames) < count[:, None]


def resize(video: Video, height: int, width: int) -> Float[Tensor, "b c t {height} {width}"]:
    """Bilinear, antialiased when shrinking, frame by frame."""
    if video.shape[-2:] == (height, width):
        return video
    frames = video.movedim(2, 1).flatten(0, 1)
    small = functional.interpolate(frames, (height, width), mode="bilinear", antialias=True, align_corners=False)
    return small.unflatten(0, (video.shape[0], video.shape[2])).movedim(1, 2)


def drop_captions(captions: Sequence[str | None], groups: Groups | None, rate: float, rng: Rng) -> list[str | None]:
    """Forget each clip's caption with probability ``rate``, so that guidance has an unconditional model to lean on.

    Each clip's coin is thrown by the generator of the sample it belongs to (Ho and Salimans 2021, algorithm 1).
    """
    owner = torch.arange(len(captions))
    if groups is not None:
        owner[groups.cpu()] = torch.arange(len(groups))[:, None].expand(groups.shape)
    coins = [torch.rand((), generator=rng[row]).item() for row in owner.tolist()]
    return [None if coin < rate else caption for coin, caption in zip(coins, captions, strict=True)]
