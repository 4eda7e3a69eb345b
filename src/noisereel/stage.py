"""One diffusion model end to end: captions and clips in, a loss or a video out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool
from torch import Generator, Tensor, nn

from noisereel.codecs.clips import encode_clips
from noisereel.conditioning import KnownFrames, LowRes, drop_captions, some_first
from noisereel.diffusion.guidance import Guide, cfg, hold, reconstruct
from noisereel.diffusion.process import Diffusion
from noisereel.diffusion.samplers import Sampler, ancestral
from noisereel.diffusion.times import MakeLadder, ladder
from noisereel.types import (
    Backbone,
    Batch,
    ClipReader,
    Codec,
    Cond,
    Denoiser,
    Given,
    Groups,
    Hint,
    Known,
    Latent,
    Loss,
    Rng,
    Step,
    Text,
    TextEncoder,
    Video,
    randn,
)

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
    given: Given | KnownFrames | None = None
    guide: Guide = field(default_factory=lambda: cfg(1.0))
    context: Guide = field(default_factory=lambda: cfg(1.0))  # leans away from being given nothing (Video LDM, section 3.2)
    sampler: Sampler = field(default_factory=lambda: ancestral(gamma=0.3))
    rungs: MakeLadder = ladder
    steps: int = 64
    caption_dropout: float = 0.1
    prefixes: float = 0.0  # how often training shows the first latent frames of a clip clean; if ever, sampling holds them so
    apart: bool = False  # each frame is sampled as an image, all of a video from the same noise (Make-A-Video, section 3.2.3)
    longest_prefix: int = 0  # how many of them at most; 0 for all but one
    reconstruction: float = 2.0  # else the weight of reconstruction guidance where frames are known

    def __post_init__(self) -> None:
        if self.steps < 1:  # found now, not by the first preview of a long training run
            raise ValueError(f"sampling takes at least 1 step, not {self.steps}")

    def loss(self, batch: Batch, rng: Rng) -> Loss:
        """The training loss of a batch: encode, drop captions, condition, and measure the denoising error."""
        x0, cond = self.shown(batch, rng, self.caption_dropout)
        known = None
        if self.prefixes:
            known = some_first(x0.shape[2], cond.groups, self.prefixes, rng, self.longest_prefix).to(x0.device)
        return Loss(total=self.diffusion.loss(self.net, x0, cond, rng, known).mean())

    def validate(self, batch: Batch, rng: Rng) -> dict[str, float]:
        """The held-out loss at five noise levels, with captions."""
        x0, cond = self.shown(batch, rng)
        times = {f"loss@{time:g}": torch.full((len(x0),), time, device=x0.device) for time in VALIDATION_TIMES}
        with torch.no_grad():
            return {name: float(self.diffusion.loss_at(self.net, x0, cond, t, rng).mean()) for name, t in times.items()}

    def shown(self, batch: Batch, rng: Rng, dropout: float = 0.0) -> tuple[Latent, Cond]:
        """A training batch in latents, and what the network may look at besides; captions are dropped at that rate."""
        x0, groups = self._encode(batch)
        text = self.told(batch, rng, dropout)
        return x0, Cond(text=text, fps=batch.fps, groups=groups, hint=self.hint(batch.video, x0, rng, batch.groups))

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
        told: tuple[Text, Text] | None = None,
    ) -> Iterator[Step]:
        """Denoise one latent video for each prompt; the last step's ``x`` is the result, for ``decode``.

        Args:
            prompts: one for each generator in ``rng``; None samples without a caption.
            previous: the video of the stage before, in pixels, where this stage is given one.
            negative: what guidance leans away from; no caption by default.
            shape: frames, height, width in pixels; by default what ``previous`` makes, or the size trained for.
            noise: the noise to start from, in latents, instead of drawing it.
            known: frames the video must contain; the rest is made to fit (by reconstruction guidance, VDM section 3.1, unless
                the stage was trained with ``prefixes`` or is given frames).
            told: what ``read`` made of ``prompts`` and ``negative``, where that is known already.

        Raises:
            ValueError: a shape the codec cannot take, or a missing ``previous``.
        """
        told = told or self.read(prompts, negative, rng)
        if self.apart and previous is not None:
            return self._sample_apart(prompts, previous, rng, told)
        if isinstance(self.given, LowRes) and previous is not None and shape is None:
            shape = self.given.enlarged(previous)
            fitting = replace(self, given=replace(self.given, size=shape))
            return fitting.sample(prompts, previous, rng, shape=shape, noise=noise, told=told)
        if isinstance(self.given, KnownFrames) and previous is not None:
            known = self.given.spread(previous)
            frames, height, width = known.video.shape[2:]
            shape = frames, height, width
        start = self._start(shape or self.shape, noise, rng)
        hint = self._hint(previous, known, start, rng)
        denoisers = [self._denoiser(text, hint) for text in told]
        if known is not None and self.prefixes:
            denoisers = [hold(denoiser, *self._known(known)) for denoiser in denoisers]
        denoiser = self.guide(*denoisers)
        if known is not None and not self.prefixes and not self.needs_video:
            clean, held = self._known(known)
            weight = self.reconstruction if hint is None else 0.0  # a network that is told what is known needs no pull
            denoiser = reconstruct(denoiser, self.diffusion.schedule, clean, held[None, None, :, None, None], weight, rng)
        return self.sampler(denoiser, start, self.rungs(self.diffusion.schedule, self.steps), rng)

    @torch.no_grad()
    def read(self, prompts: Sequence[str | None], negative: Sequence[str | None] | None, rng: Rng) -> tuple[Text, Text]:
        """What the network is told of the prompts, and of what guidance leans away from: no caption by default."""
        both = prompts, negative or [None] * len(prompts)
        if isinstance(self.text, ClipReader):
            wanted, unwanted = (self.text.from_prompts(list(texts), rng) for texts in both)
        else:
            wanted, unwanted = (self.text(list(texts)) for texts in both)
        return wanted, unwanted

    def decode(self, latent: Latent) -> Video:
        """Pixels in [-1, 1].

        Raises:
            ValueError: latents that are not finite.
        """
        if not bool(torch.isfinite(latent).all()):
            raise ValueError("sampling gave values that are not finite (NaN or infinity): try more steps, less guidance, fp32")
        with torch.no_grad():
            return self.codec.decode(latent[:, :, self.spare :]).clamp(-1, 1)

    def hint(self, video: Video, latent: Latent, rng: Rng, groups: Groups | None = None) -> Hint | None:
        """What the network is given of clean clips, which are there in pixels, in ``groups``, and in latents."""
        if self.given is None:
            return None
        return (
            self.given.from_clip(latent, rng)
            if isinstance(self.given, KnownFrames)
            else self.given.from_clip(video, rng, groups)
        )

    @property
    def needs_video(self) -> bool:
        """Whether a prompt is not enough to begin with."""
        return self.given is not None and not isinstance(self.given, KnownFrames)

    def latent_shape(self, shape: tuple[int, int, int]) -> tuple[int, int, int, int]:
        """Channels, frames, height, width of the latents of a video of ``shape``.

        Raises:
            ValueError: a size of zero, or one the codec's stride does not divide; says which sizes would do.
        """
        leads, strides = (self.codec.lead, 0, 0), self.codec.stride
        for name, size, multiple, lead in zip(("frames", "height", "width"), shape, self.legal_multiples(), leads, strict=True):
            if size < 1 or (size - lead) % multiple:
                raise ValueError(f"{name} {size} will not do: this model takes {legal(size, multiple, lead)}")
        frames, height, width = (lead + (size - lead) // by for size, by, lead in zip(shape, strides, leads, strict=True))
        return self.codec.channels, self.spare + frames, height, width

    def legal_multiples(self) -> tuple[int, int, int]:
        """What frames (after the codec's lead), height and width are multiples of: the codec's stride times the network's."""
        time, height, width = self.codec.stride
        space = getattr(self.net, "multiple", 1)  # of a network that halves its input again and again
        return time * getattr(self.net, "multiple_frames", 1), height * space, width * space

    @property
    def spare(self) -> int:
        """Latent frames sampled before the first and not shown, where the lead does not fill a patch (CogVideoX 1.5)."""
        return -self.codec.lead % getattr(self.net, "multiple_frames", 1)

    @property
    def device(self) -> torch.device:
        assert isinstance(self.net, nn.Module)
        return next(self.net.parameters()).device

    def parts(self) -> dict[str, nn.Module]:
        """The modules that hold weights, under the names their folders have in a diffusers checkpoint."""
        named = {getattr(self.net, "folder", "unet"): self.net, "text_encoder": self.text, "vae": self.codec}
        return {name: part for name, part in named.items() if isinstance(part, nn.Module)}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The network and the text encoder, as far as they ask for a gradient, in one group; a codec is trained by itself."""
        learning = [part for name, part in self.parts().items() if name != "vae"]
        return [{"params": [p for part in learning for p in part.parameters() if p.requires_grad]}]

    def _encode(self, batch: Batch) -> tuple[Latent, Groups | None]:
        """The batch in latents, and which clip each latent frame belongs to."""
        if batch.encoded:
            return batch.video, batch.groups
        with torch.no_grad():
            return encode_clips(self.codec, batch.video, batch.groups)

    def told(self, batch: Batch, rng: Rng, dropout: float = 0.0) -> Text:
        """What the network is told of each clip in training: its caption, or what the clip itself shows; or nothing."""
        if not isinstance(self.text, ClipReader):
            return self.text(drop_captions(batch.captions, batch.groups, dropout, rng))
        assert not batch.encoded, "latents show a clip reader nothing"
        kept = drop_captions([""] * len(batch.captions), batch.groups, dropout, rng)
        return self.text.from_clips(batch.video, batch.groups, rng).without([caption is None for caption in kept])

    def _sample_apart(
        self, prompts: Sequence[str | None], previous: Video, rng: Rng, told: tuple[Text, Text]
    ) -> Iterator[Step]:
        """Sample frame by frame: equal frames before give equal frames, so what is made up does not flicker."""
        frames = previous.shape[2]
        # Generators of one seed draw the same for every frame: at the start, in each step, and for the hint.
        seeds = [int(torch.randint(2**62, (), generator=generator)) for generator in rng]
        same = [Generator().manual_seed(seed) for seed in seeds for _ in range(frames)]
        stills = rearrange(previous, "b c t h w -> (b t) c 1 h w")
        alone = replace(self, apart=False)
        prompts = [prompt for prompt in prompts for _ in range(frames)]
        wanted, unwanted = (text.repeated(frames) for text in told)
        for step in alone.sample(prompts, stills, same, told=(wanted, unwanted)):
            x, clean = (rearrange(y, "(b t) c 1 h w -> b c t h w", t=frames) for y in (step.x, step.clean))
            yield replace(step, x=x, clean=clean)

    def _known(self, known: Known) -> tuple[Latent, Bool[Tensor, t]]:
        """What is known in latents: the latent frames all of whose frames are known."""
        lead, stride = self.codec.lead, self.codec.stride[0]
        later = known.frames[lead:].unflatten(0, (-1, stride)).all(1)
        clean = F.pad(self.codec.encode(known.video), (0, 0, 0, 0, self.spare, 0))
        return clean, F.pad(torch.cat([known.frames[:lead], later]), (self.spare, 0)).to(clean.device)

    def _hint(self, previous: Video | None, known: Known | None, like: Latent, rng: Rng) -> Hint | None:
        """What the network is given in sampling, for a video of latents ``like`` these."""
        if self.given is None:
            return None
        if isinstance(self.given, KnownFrames):
            nothing = torch.zeros_like(like), torch.zeros(like.shape[2], dtype=torch.bool)
            return self.given.from_known(*(nothing if known is None else self._known(known)), rng)
        before = previous if known is None else known.video
        if before is None:
            raise ValueError("this stage works on the video of a stage before it, and was given none")
        return self.given.from_previous(before, rng)

    def _denoiser(self, text: Text, hint: Hint | None) -> Denoiser:
        """The network that is told this, guided towards what it is given."""
        cond = Cond(text=text, fps=self._rates(len(text.mask)), hint=hint)
        without = cond if hint is None else replace(cond, hint=replace(hint, channels=torch.zeros_like(hint.channels)))
        return self.context(*(self.diffusion.denoiser(self.net, given) for given in (cond, without)))

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


def legal(size: int, multiple: int, lead: int) -> str:
    """The sizes a model takes, in words, with those nearest to ``size``."""
    if multiple == 1:
        return "1 or more"
    below = lead + (size - lead) // multiple * multiple
    near = f"{below} or {below + multiple}" if below > 0 else f"{lead or multiple}"
    return f"{f'{lead} and ' if lead else ''}a multiple of {multiple}, such as {near}"
