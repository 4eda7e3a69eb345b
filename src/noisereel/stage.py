"""One diffusion model end to end: captions and clips in, a loss or a video out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from noisereel.conditioning import drop_captions
from noisereel.diffusion.guidance import Guide, cfg, reconstruct
from noisereel.diffusion.process import Diffusion
from noisereel.diffusion.samplers import Sampler, ancestral
from noisereel.diffusion.times import ladder
from noisereel.types import Backbone, Batch, Codec, Cond, Given, Hint, Known, Latent, Loss, Rng, Step, TextEncoder, Video, randn

VALIDATION_TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """A network and everything needed to train it and to sample from it.

    A stage is a value: ``dataclasses.replace(stage, steps=20, guide=cfg(4.0))`` is the same model sampled another way.
    """

    net: Backbone
    diffusion: Diffusion
    codec: Codec
    text: TextEncoder
    shape: tuple[int, int, int]  # frames, height, width it was trained for, in pixels
    fps: float
    given: Given | None = None
    guide: Guide = field(default_factory=lambda: cfg(1.0))
    sampler: Sampler = field(default_factory=lambda: ancestral(gamma=0.3))
    steps: int = 64
    caption_dropout: float = 0.1
    reconstruction: float = 2.0  # weight of reconstruction guidance where frames are known

    def __post_init__(self) -> None:
        if self.steps < 1:  # found now, not by the first preview of a long training run
            raise ValueError(f"sampling takes at least 1 step, not {self.steps}")

    def loss(self, batch: Batch, rng: Rng) -> Loss:
        """The training loss of a batch: encode, drop captions, condition, and measure the denoising error."""
        x0 = self._encode(batch.video)
        losses = self.diffusion.loss(self.net, x0, self._condition(batch, self.caption_dropout, rng), rng)
        return Loss(total=losses.mean())

    def validate(self, batch: Batch, rng: Rng) -> dict[str, float]:
        """The held-out loss at five noise levels, with captions."""
        x0 = self._encode(batch.video)
        cond = self._condition(batch, 0.0, rng)
        times = {f"loss@{time:g}": torch.full((len(x0),), time, device=x0.device) for time in VALIDATION_TIMES}
        with torch.no_grad():
            return {name: float(self.diffusion.loss_at(self.net, x0, cond, t, rng).mean()) for name, t in times.items()}

    def preview(self, prompts: Sequence[str], rng: Rng) -> Video:
        """One video for each prompt, in [-1, 1], as ``sample`` makes it."""
        *_, last = self.sample(prompts, None, rng)
        return self.decode(last.x)

    @torch.no_grad()
    def sample(
        self,
        prompts: Sequence[str | None],
        previous: Video | None,
        rng: Rng,
        *,
        negative: Sequence[str | None] | None = None,
        shape: tuple[int, int, int] | None = None,
        noise: Latent | None = None,
        known: Known | None = None,
    ) -> Iterator[Step]:
        """Denoise one latent video for each prompt; the last step's ``x`` is the result, for ``decode``.

        Args:
            prompts: one for each generator in ``rng``; None samples without a caption.
            previous: the video of the stage before, in pixels, where this stage is given one.
            negative: what guidance leans away from; no caption by default.
            shape: frames, height, width in pixels; the size trained for by default.
            noise: the noise to start from, in latents, instead of drawing it.
            known: frames the video must contain; the rest is made to fit (reconstruction guidance, VDM section 3.1).

        Raises:
            ValueError: a shape the codec cannot take, or a missing ``previous``.
        """
        hint = self._hint(previous, rng)
        text = Cond(text=self.text(list(prompts)), fps=self._rates(len(prompts)), hint=hint)
        null = Cond(text=self.text(list(negative or [None] * len(prompts))), fps=text.fps, hint=hint)
        denoiser = self.guide(self.diffusion.denoiser(self.net, text), self.diffusion.denoiser(self.net, null))
        if known is not None:
            clean = self._encode(known.video)
            mask = known.frames[None, None, :, None, None].to(clean.device)
            denoiser = reconstruct(denoiser, self.diffusion.schedule, clean, mask, self.reconstruction, rng)
        start = self._start(shape or self.shape, noise, rng)
        return self.sampler(denoiser, start, ladder(self.diffusion.schedule, self.steps), rng)

    def decode(self, latent: Latent) -> Video:
        """Pixels in [-1, 1].

        Raises:
            ValueError: latents that are not finite.
        """
        if not bool(torch.isfinite(latent).all()):
            raise ValueError("sampling gave values that are not finite (NaN or infinity): try more steps, less guidance, fp32")
        with torch.no_grad():
            return self.codec.decode(latent).clamp(-1, 1)

    def latent_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
        """Channels, frames, height, width of the latents of a video of ``shape``.

        Raises:
            ValueError: a size of zero, or one the codec's stride does not divide; says which sizes would do.
        """
        strides = self.legal_multiples()
        for name, size, stride in zip(("frames", "height", "width"), shape, strides, strict=True):
            if size < 1 or size % stride:
                below, above = size // stride * stride, (max(size, 0) // stride + 1) * stride
                near = f"{below} or {above}" if below > 0 else f"{above}"
                legal = f"a multiple of {stride}, such as {near}" if stride > 1 else "1 or more"
                raise ValueError(f"{name} {size} will not do: this model takes {legal}")
        frames, height, width = (size // stride for size, stride in zip(shape, self.codec.stride, strict=True))
        return self.codec.channels, frames, height, width

    def legal_multiples(self) -> tuple[int, int, int]:
        """Frames, height and width of a video are multiples of these: the codec's stride times the network's."""
        time, height, width = self.codec.stride
        space = getattr(self.net, "multiple", 1)  # of a network that halves its input again and again
        return time, height * space, width * space

    @property
    def device(self) -> torch.device:
        return next(self.parts()["unet"].parameters()).device

    def parts(self) -> dict[str, nn.Module]:
        """The modules that hold weights, under the names their folders have in a diffusers checkpoint."""
        named = {"unet": self.net, "text_encoder": self.text, "vae": self.codec}
        return {name: part for name, part in named.items() if isinstance(part, nn.Module)}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Everything that asks for a gradient, in one group."""
        return [{"params": [p for part in self.parts().values() for p in part.parameters() if p.requires_grad]}]

    def _encode(self, video: Video) -> Latent:
        with torch.no_grad():
            return self.codec.encode(video)

    def _condition(self, batch: Batch, dropout: float, rng: Rng) -> Cond:
        captions = drop_captions(batch.captions, batch.groups, dropout, rng)
        hint = None if self.given is None else self.given.from_clip(batch.video, rng)
        return Cond(text=self.text(captions), fps=batch.fps, groups=batch.groups, hint=hint)

    def _hint(self, previous: Video | None, rng: Rng) -> Hint | None:
        if self.given is None:
            return None
        if previous is None:
            raise ValueError("this stage works on the video of a stage before it, and was given none")
        return self.given.from_previous(previous, rng)

    def _start(self, shape: tuple[int, int, int], noise: Latent | None, rng: Rng) -> Latent:
        """What sampling starts from: the caller's noise if it fits, or noise of each sample's own generator."""
        wanted = self.latent_shape(shape)
        if noise is None:
            return randn(rng, *wanted).to(self.device)
        if noise.shape != (len(rng), *wanted):
            raise ValueError(f"the latents have shape {list(noise.shape)}, not {[len(rng), *wanted]}")
        return noise.to(self.device)

    def _rates(self, count: int) -> torch.Tensor:
        return torch.full((count,), self.fps, device=self.device)
