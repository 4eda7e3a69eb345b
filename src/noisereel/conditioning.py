"""What a stage is given besides noise: a low-resolution video, or some of its frames; and the dropping of captions.

Temporal and spatial super-resolution, frame interpolation, prediction, extension and image-to-video are one idea: extra
input channels. They are made twice, in training from the clean clip; in sampling from another video, by a ``Given`` such as
``LowRes``, or from frames that are known of the video itself, by ``KnownFrames``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from noisereel.diffusion.process import TELLS, Tells
from noisereel.diffusion.schedules import Cosine, Schedule
from noisereel.diffusion.schedules import spread as over_video
from noisereel.types import Codec, Groups, Hint, Known, Latent, Rng, Time, Video, rand, randn

Small = Float[Tensor, "b c _ _ _"]  # a video of fewer frames or pixels than the one beside it
Which = Callable[[int, Rng], Bool[Tensor, "b t"]]  # number of frames -> which of them are known


@dataclass(frozen=True, kw_only=True)
class LowRes:
    """A smaller video, enlarged to the stage's size: super-resolution in time, in space, or both.

    In training the low-resolution video is noised to a random level up to ``noise`` and the level is told to the network, so
    that the artefacts of the stage before do no harm (conditioning augmentation, Ho et al. 2022, section 2.5);
    in sampling it is noised to ``sample_noise``. Where the stage does not work on pixels, ``codec`` is its own.

    The frames that a smaller video lacks are repetitions of the one before, or ``blank`` (Imagen Video, section 2.3), or a
    ``blend`` of the frames before and after. Every clip of a sample is made shorter by itself: of an image that was appended,
    nothing is lacking.
    """

    size: tuple[int, int, int]  # frames, height, width of the stage's own video
    time: int = 1
    space: int = 1
    blank: bool = False
    blend: bool = False
    noise: float = 0.0  # time on ``schedule``, 0 clean .. 1 noise
    sample_noise: float = 0.0
    tells: Tells = "time"  # how the network is told the level
    schedule: Schedule = field(default_factory=Cosine)
    codec: Codec | None = None

    def __post_init__(self) -> None:
        if self.time < 1 or self.space < 1:
            raise ValueError(f"LowRes enlarges by whole factors of at least 1, not time={self.time}, space={self.space}")
        if self.blank and self.blend:
            raise ValueError("the frames that LowRes lacks are blank or a blend: choose one of them")

    @property
    def channels(self) -> int:
        return 3 if self.codec is None else self.codec.channels

    def from_clip(self, video: Video, rng: Rng, groups: Groups | None = None) -> Hint:
        """The hint for clean clips: made small, enlarged again, noised to a random level.

        ``groups`` says which clip a frame belongs to, where a sample holds several.
        """
        height, width = video.shape[-2:]
        if height % self.space or width % self.space:
            raise ValueError(f"{height}x{width} pixels cannot be made {self.space} times fewer; use multiples of {self.space}")
        small = resize(self._lengthen(video, groups), height // self.space, width // self.space)
        return self._hint(resize(small, height, width), self.noise * rand(rng), rng)

    def from_previous(self, video: Video, rng: Rng) -> Hint:
        """The hint for a video of the stage before: enlarged, noised to the fixed level of sampling."""
        frames, height, width = self.size
        long = self._lengthen(video.repeat_interleave(self.time, dim=2)[:, :, :frames])
        return self._hint(resize(long, height, width), torch.full((len(rng),), self.sample_noise), rng)

    def enlarged(self, video: Small) -> tuple[int, int, int]:
        """Frames, height and width of what a video of the stage before becomes; it may be of another size than in training."""
        frames, height, width = video.shape[2:]
        usual = frames == -(-self.size[0] // self.time)  # then the last frame need not be followed by others
        return self.size[0] if usual else frames * self.time, height * self.space, width * self.space

    def _lengthen(self, video: Video, groups: Groups | None = None) -> Video:
        """Every ``time``-th frame of each clip, and what fills the places of the others."""
        if self.time == 1:
            return video
        number = torch.arange(video.shape[2], device=video.device)
        place = number[None] if groups is None else (groups[:, :, None] == groups[:, None, :]).tril(-1).sum(-1).to(video.device)
        if self.blank:
            return video * (place % self.time == 0).to(video)[:, None, :, None, None]
        before = (number - place % self.time).expand(len(video), -1)
        if not self.blend:
            return _picked(video, before)
        after, last = before + self.time, number[-1]
        clip = torch.zeros_like(before) if groups is None else groups.to(video.device)
        there = (after <= last) & (clip == clip.gather(1, after.clamp(max=last)))
        share = (place % self.time / self.time).to(video)[:, None, :, None, None]
        return _picked(video, before).lerp(_picked(video, torch.where(there, after, before)), share)

    def _hint(self, video: Video, level: Time, rng: Rng) -> Hint:
        seen = video if self.codec is None else self.codec.encode(video)
        hint = augmented(seen, level, self.schedule, rng)
        assert hint.noise is not None
        return replace(hint, noise=TELLS[self.tells](self.schedule, hint.noise))


def _picked(video: Video, numbers: Int[Tensor, "b t"]) -> Video:
    """The frames of those numbers."""
    return video.gather(2, numbers[:, None, :, None, None].expand_as(video))


@dataclass(frozen=True, kw_only=True)
class KnownFrames:
    """Some frames of the video itself, zeros elsewhere, and a channel that says which; all in the stage's own latents.

    Interpolation, prediction, extension and image-to-video differ only in ``which``. Known frames are noised as those of
    ``LowRes`` are. In sampling any frames may be known, such as the caller's; or none, if training knew that. Of the video of
    a stage before, the frames become every ``spacing``-th of this stage's.

    Make-A-Video, section 3.3 (the masked frame interpolation network); Video LDM, section 3.2.
    """

    which: Which  # of the frames of a clip, in training
    spacing: int = 1
    video_channels: int = 3
    noise: float = 0.0  # time on ``schedule``, 0 clean .. 1 noise
    sample_noise: float = 0.0
    schedule: Schedule = field(default_factory=Cosine)

    @property
    def channels(self) -> int:
        return self.video_channels + 1

    def from_clip(self, latent: Latent, rng: Rng) -> Hint:
        """The hint for a clean clip: its known frames, noised to a random level, and the mask."""
        return self._hint(latent, self.which(latent.shape[2], rng), self.noise * rand(rng), rng)

    def from_known(self, latent: Latent, frames: Bool[Tensor, "t"], rng: Rng) -> Hint:
        """The hint for a video of which ``frames`` are known; the others may hold anything."""
        return self._hint(latent, frames.expand(len(rng), -1), torch.full((len(rng),), self.sample_noise), rng)

    def spread(self, video: Video) -> Known:
        """The frames of a stage before as those that are known of this stage's video."""
        return spread(video, (video.shape[2] - 1) * self.spacing + 1, self.spacing)

    def _hint(self, latent: Latent, known: Bool[Tensor, "b t"], level: Time, rng: Rng) -> Hint:
        mask = known.to(latent)[:, None, :, None, None].expand(-1, -1, -1, *latent.shape[-2:])
        seen = augmented(latent, level, self.schedule, rng)
        return Hint(channels=torch.cat([seen.channels * mask, mask], dim=1), noise=seen.noise)


def every(*strides: int) -> Which:
    """Every so-many-th frame is known, from the first on: interpolation. Of several strides each sample draws its own."""
    return lambda frames, rng: torch.arange(frames) % _drawn(strides, rng)[:, None] == 0


def first(*counts: int) -> Which:
    """The first few frames are known, as many as one of ``counts``: prediction, extension, image-to-video.

    Of several counts each sample draws its own; 0 may be one of them, that nothing is known.
    """

    return lambda frames, rng: torch.arange(frames) < _drawn(counts, rng)[:, None]


def either(*kinds: Which) -> Which:
    """Each sample draws one of several ways for frames to be known."""

    def which(frames: int, rng: Rng) -> Bool[Tensor, "b t"]:
        drawn = _drawn(range(len(kinds)), rng)
        return torch.stack([kind(frames, rng) for kind in kinds])[drawn, torch.arange(len(rng))]

    return which


def _drawn(numbers: Sequence[int], rng: Rng) -> Int[Tensor, "b"]:
    """One of the numbers for each sample; a single one takes no randomness."""
    drawn = (rand(rng) * len(numbers)).long() if len(numbers) > 1 else torch.zeros(len(rng), dtype=torch.long)
    return torch.tensor(numbers)[drawn]


def some_first(frames: int, groups: Groups | None, rate: float, rng: Rng, most: int = 0) -> Bool[Tensor, "b t"]:
    """Which frames are known: with probability ``rate`` the first few of a sample's first clip, never all of it.

    They are one to ``most``, or to all but one where that is 0.

    What a stage is trained with that shall continue videos and animate images (see ``diffusion.guidance.hold``).
    """
    chosen, share = rand(rng, 2).unbind(1)
    first = torch.full((len(rng),), frames) if groups is None else (groups == groups[:, :1]).sum(1).cpu()
    longest = (first - 1).clamp(max=most) if most else first - 1
    count = torch.where(chosen < rate, 1 + (share * longest).long(), 0).clamp(max=longest)
    return torch.arange(frames) < count[:, None]


def spread(video: Video, length: int, every: int) -> Known:
    """The frames of ``video`` as every ``every``-th of ``length``, from the first on; blank where nothing is known."""
    frames = torch.zeros(length, dtype=torch.bool)
    frames[: video.shape[2] * every : every] = True
    blank = video.new_zeros(*video.shape[:2], length, *video.shape[3:])
    blank[:, :, frames] = video
    return Known(video=blank, frames=frames)


def augmented(video: Latent, level: Time, schedule: Schedule, rng: Rng) -> Hint:
    """A hint that is noised, and says how much: conditioning augmentation."""
    if not level.any():
        return Hint(channels=video, noise=level.to(video.device))
    signal = over_video(schedule(level.to(video.device)))
    noise = randn(rng, *video.shape[1:]).to(video)
    return Hint(channels=signal.alpha * video + signal.sigma * noise, noise=level.to(video.device))


def resize(video: Video, height: int, width: int) -> Float[Tensor, "b c t {height} {width}"]:
    """Bilinear, antialiased when shrinking, frame by frame."""
    if video.shape[-2:] == (height, width):
        return video
    frames = video.movedim(2, 1).flatten(0, 1)
    # In fp32: on a CPU there is no antialiasing in bf16.
    small = functional.interpolate(frames.float(), (height, width), mode="bilinear", antialias=True, align_corners=False)
    return small.to(video.dtype).unflatten(0, (video.shape[0], video.shape[2])).movedim(1, 2)


def drop_captions(captions: Sequence[str | None], groups: Groups | None, rate: float, rng: Rng) -> list[str | None]:
    """Forget each clip's caption with probability ``rate``, so that guidance has an unconditional model to lean on.

    Each clip's coin is thrown by the generator of the sample it belongs to (Ho and Salimans 2021, algorithm 1).
    """
    owner = torch.arange(len(captions))
    if groups is not None:
        owner[groups.cpu()] = torch.arange(len(groups))[:, None].expand(groups.shape)
    coins = [torch.rand((), generator=rng[row]).item() for row in owner.tolist()]
    return [None if coin < rate else caption for coin, caption in zip(coins, captions, strict=True)]
