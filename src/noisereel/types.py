"""The nouns every other module speaks, and the letters of every shape.

    b  samples in a batch        t  frames           n  clips (a sample may hold several, see ``Cond.groups``)
    c  channels                  h  height           l  text tokens
    k  hint channels             w  width            d  text width

An image is a one-frame video; there is no other image type. Time runs from 0 (clean) to 1 (noise).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn

Video = Float[Tensor, "b c t h w"]  # pixels in [-1, 1], or latents of about unit variance
Latent = Float[Tensor, "b z _ _ _"]  # a video as a codec holds it, of another size than the video beside it
Time = Float[Tensor, "b"]  # 0 clean .. 1 noise
Times = Time | Float[Tensor, "b t"]  # of a whole sample, or of each of its frames: 0 for a frame that is known
Groups = Int[Tensor, "b t"]  # which clip a frame belongs to; its row in Text and fps

# One CPU generator for each sample: what is drawn for a sample depends on nothing but its own generator.
Rng = Sequence[Generator]

Denoiser = Callable[[Video, Times], Video]  # noisy x at time t -> estimate of clean x


@dataclass(frozen=True, kw_only=True)
class Level:
    """How much signal and noise there is: ``x_t = alpha * x0 + sigma * eps``."""

    alpha: Float[Tensor, "*time"]
    sigma: Float[Tensor, "*time"]

    @property
    def snr(self) -> Float[Tensor, "*time"]:
        """Signal-to-noise ratio, ``alpha**2 / sigma**2``; infinite where sigma is 0."""
        return (self.alpha / self.sigma) ** 2

    @property
    def log_snr(self) -> Float[Tensor, "*time"]:
        """``log(alpha**2 / sigma**2)``, the lambda of Kingma et al. 2021; infinite at both ends."""
        return 2 * (self.alpha.log() - self.sigma.log())


@dataclass(frozen=True, kw_only=True)
class Text:
    """Encoded captions, one row for each clip."""

    tokens: Float[Tensor, "n l d"]
    mask: Bool[Tensor, "n l"]  # True where a token is real
    pooled: Float[Tensor, "n p"]

    def repeated(self, times: int) -> Text:
        """Each row so many times, one after the other."""
        tokens, mask, pooled = (rows.repeat_interleave(times, dim=0) for rows in (self.tokens, self.mask, self.pooled))
        return Text(tokens=tokens, mask=mask, pooled=pooled)

    def without(self, rows: Sequence[bool]) -> Text:
        """The same text with nothing at all in those rows."""
        none = torch.tensor(rows, dtype=torch.bool, device=self.mask.device)[:, None]
        return Text(
            tokens=self.tokens.masked_fill(none[..., None], 0),
            mask=self.mask & ~none,
            pooled=self.pooled.masked_fill(none, 0),
        )


@dataclass(frozen=True, kw_only=True)
class Hint:
    """What a stage is given besides noise: extra input channels, and how noisy they were made."""

    channels: Float[Tensor, "b k t h w"]
    noise: Time | None = None  # conditioning-augmentation level, 0 clean .. 1 noise


@dataclass(frozen=True, kw_only=True)
class Known:
    """Frames a sample must contain, in pixels; those where ``frames`` is False may hold anything."""

    video: Video
    frames: Bool[Tensor, t]


@dataclass(frozen=True, kw_only=True)
class Cond:
    """Everything a network may look at besides the noisy video and its time.

    ``groups[i, j]`` is the number of the clip that frame j of sample i belongs to: frames of one clip mix in time, frames
    of different clips never do, and the number is the clip's row in ``text`` and ``fps``. ``None`` means sample i is clip i.
    """

    text: Text | None = None
    fps: Float[Tensor, n] | None = None
    groups: Groups | None = None
    hint: Hint | None = None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Training clips: ``b`` samples that hold ``n`` clips between them (``n == b`` unless ``groups`` says otherwise)."""

    video: Video
    captions: list[str | None]  # n; None where the clip has no caption
    fps: Float[Tensor, n]
    groups: Groups | None = None
    index: tuple[int, ...] = ()  # b; the samples' numbers in their source, to name a batch that went wrong
    encoded: bool = False  # ``video`` holds what the codec makes of it: latents kept from an earlier pass

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        groups = None if self.groups is None else self.groups.to(device)
        return replace(self, video=self.video.to(device), fps=self.fps.to(device), groups=groups)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One moment of sampling: step ``index`` of ``total`` took ``x`` to time ``t`` and believed in ``clean``."""

    index: int
    total: int
    t: float
    x: Video
    clean: Video


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What a training step minimises, and the named parts that go to the log."""

    total: Float[Tensor, ""]
    parts: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Backbone(Protocol):
    """A network that maps a noisy video to a prediction of the same shape; it knows ``Cond``, not diffusion."""

    blocks: nn.ModuleList  # what compile, sharding and caching wrap

    def __call__(self, x: Video, t: Times, cond: Cond) -> Video: ...

    def temporal_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that mix frames: what is trained when an image network becomes a video network."""
        ...


@runtime_checkable
class Codec(Protocol):
    """Video to latent video and back, scaling included: outside a codec every tensor has about unit variance."""

    @property
    def channels(self) -> int: ...

    @property
    def stride(self) -> tuple[int, int, int]:
        """How many frames, rows and columns of the video one position of the latent stands for."""
        ...

    @property
    def lead(self) -> int:
        """How many first frames have a latent frame of their own.

        1 for a causal codec, whose first frame is an image: ``1 + k * stride[0]`` frames make ``1 + k`` latent ones; else 0.
        """
        ...

    def encode(self, video: Video) -> Latent: ...

    def decode(self, latent: Latent) -> Video: ...


@runtime_checkable
class TextEncoder(Protocol):
    """Captions to ``Text``; ``None`` stands for no caption and gives the null embedding of guidance."""

    dim: int  # width of the tokens
    pooled_dim: int

    def __call__(self, prompts: Sequence[str | None]) -> Text: ...


@runtime_checkable
class ClipReader(TextEncoder, Protocol):
    """A text encoder with chance in it, whose stages learn from clips that have no captions.

    What a stage is told is then made twice, as a hint is: in training of the clip itself, in sampling of the prompt. What is
    drawn for a prompt comes from its sample's own generator; called without generators, from one that the prompt seeds.
    """

    def from_clips(self, video: Video, groups: Groups | None, rng: Rng) -> Text:
        """One row for each clip."""
        ...

    def from_prompts(self, prompts: Sequence[str | None], rng: Rng) -> Text: ...


@runtime_checkable
class Given(Protocol):
    """What a stage receives from before it: made from the clean clip in training, from the previous stage in sampling."""

    @property
    def channels(self) -> int: ...

    def from_clip(self, video: Video, rng: Rng, groups: Groups | None = None) -> Hint: ...

    def from_previous(self, video: Video, rng: Rng) -> Hint: ...


@runtime_checkable
class Trainable(Protocol):
    """All the trainer knows of what it trains: a stage, an autoencoder, a prior."""

    def loss(self, batch: Batch, rng: Rng) -> Loss: ...

    def validate(self, batch: Batch, rng: Rng) -> dict[str, float]:
        """Held-out measures by name; a stage gives its loss at fixed noise levels."""
        ...

    def preview(self, prompts: Sequence[str], rng: Rng) -> Video:
        """A few videos in [-1, 1] to look at while training."""
        ...

    def parts(self) -> dict[str, nn.Module]:
        """The modules that hold weights, by the name of their folder in a checkpoint."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What the optimiser moves."""
        ...


def generators(seed: int, indices: Sequence[int]) -> list[Generator]:
    """One CPU generator for each index, a pure function of ``(seed, index)``: the randomness of sample ``index``."""
    mixed = (((seed * 0x9E3779B97F4A7C15) ^ ((index + 1) * 0xD1B54A32D192ED03)) % 2**63 for index in indices)
    return [Generator().manual_seed(value) for value in mixed]


class Share(list[Generator]):
    """The generators of one process's samples, numbers ``start`` onwards of a batch of ``total``, the first with ``head``."""

    def __init__(self, own: Sequence[Generator], *, head: Generator, start: int, total: int) -> None:
        super().__init__(own)
        self.head, self.start, self.total = head, start, total


def randn(rng: Rng, *shape: int) -> Tensor:
    """Standard normal noise of shape ``(len(rng), *shape)``, each row from its own generator, on the CPU in fp32."""
    return torch.stack([torch.randn(shape, generator=generator) for generator in rng])


def rand(rng: Rng, *shape: int) -> Tensor:
    """Uniform noise in [0, 1) of shape ``(len(rng), *shape)``, each row from its own generator."""
    return torch.stack([torch.rand(shape, generator=generator) for generator in rng])
