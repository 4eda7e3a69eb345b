"""A causal 3-D variational autoencoder: 4k + 1 frames to k + 1 latent frames, an image being a video of one frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, get_args

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from noisereel.codecs.causal import Chunk, Past, Pointwise
from noisereel.codecs.causal_blocks import MakeNorm
from noisereel.codecs.causal_towers import Pad, Resample, Style, decoder, encoder
from noisereel.codecs.chunk_norm import ChunkNorm
from noisereel.codecs.pixel_norm import PixelNorm
from noisereel.types import Latent, Video

Moments = Float[Tensor, "b z _ _ _"]
Frames = Float[Tensor, "b c _ h w"]  # of one video, as many as there are in a chunk
LOGVAR_RANGE = (-30.0, 20.0)
STEPS = ("hw", "t", "thw")


class CausalVAE(nn.Module):
    """Video to latents and back, strictly causal in time, in the form of Wan's autoencoder (Wan Team 2025, section 4.1).

    A video may be encoded and decoded piece by piece with exactly the result of the whole (in fp32; in bf16 an image by
    itself may differ from the first frame of a longer chunk by rounding): ``encode_chunk`` and
    ``decode_chunk`` take what is remembered of the frames before and return it anew; ``encode_stream`` and ``decode_stream``
    pass it on. ``encode`` and ``decode`` do so where no gradient is wanted, so that their memory does not grow with the
    number of frames.

    Args (keywords only; ``CausalVAE(**vae.config)`` builds the same network):
        widths: channels of the levels, from pixels to latents; those of the decoder are ``decoder_widths`` if given.
        halve: what is halved between one level and the next: ``"hw"``, ``"t"`` or ``"thw"``.
        double: what is doubled between one level of the decoder and the next, from latents to pixels; ``halve`` backwards if
            None.
        latent_channels: of the latents.
        patch: squares of ``patch`` x ``patch`` pixels become channels before the first convolution (Wan 2.2).
        blocks: residual blocks of a level of the encoder; the decoder has one more.
        attention: whether the pixels of a frame attend to one another in the middle.
        resample: ``"conv"``: time and space by convolutions, that upwards giving half the width (Wan 2.1); ``"residual"``:
            the same with shortcuts around levels, and the width kept (Wan 2.2), by which it learns much faster; ``"pool"``:
            time by means and copies (CogVideoX).
        norm_groups: 0 for RMS normalisation of each pixel; else the groups of a normalisation over all frames of a chunk,
            in the decoder modulated by the latent (CogVideoX). With it chunks differ from the whole.
        pad: what causal convolutions see before the first frame: ``"zeros"`` or copies of the ``"first"`` frame (CogVideoX).
        quant: whether a linear map follows the encoder and another precedes the decoder (Wan).
        chunk: latent frames worked on at once.

    Raises:
        ValueError: what does not fit together.
    """

    lead = 1  # the first frame has a latent frame of its own

    mean: Tensor  # of each latent channel before scaling, and its standard deviation
    std: Tensor

    def __init__(
        self,
        *,
        widths: Sequence[int] = (96, 192, 384, 384),
        halve: Sequence[str] = ("hw", "thw", "thw"),
        decoder_widths: Sequence[int] | None = None,
        double: Sequence[str] | None = None,
        latent_channels: int = 16,
        patch: int = 1,
        blocks: int = 2,
        attention: bool = True,
        resample: Resample = "conv",
        norm_groups: int = 0,
        pad: Pad = "zeros",
        quant: bool = False,
        chunk: int = 2,
    ) -> None:
        super().__init__()
        decoder_widths = widths[::-1] if decoder_widths is None else decoder_widths
        double = halve[::-1] if double is None else double
        _check_levels("widths", widths, "halve", halve, norm_groups)
        _check_levels("decoder_widths", decoder_widths, "double", double, norm_groups)
        if sorted("".join(double)) != sorted("".join(halve)):
            raise ValueError(f"double={tuple(double)} does not undo halve={tuple(halve)}: each must have as many t and hw")
        _check_choices(resample, pad)
        self.config: dict[str, Any] = dict(
            widths=tuple(widths), halve=tuple(halve), decoder_widths=tuple(decoder_widths), double=tuple(double),
            latent_channels=latent_channels, patch=patch, blocks=blocks, attention=attention, resample=resample,
            norm_groups=norm_groups, pad=pad, quant=quant, chunk=chunk,
        )  # fmt: skip
        self.channels, self.patch, self.chunk = latent_channels, patch, chunk
        space = patch * 2 ** sum("hw" in step for step in halve)
        self.stride = (2 ** sum("t" in step for step in halve), space, space)
        colours, z = 3 * patch**2, latent_channels

        def style(blocks: int, latent_channels: int) -> Style:
            norm: MakeNorm = partial(ChunkNorm, norm_groups, latent_channels) if norm_groups else PixelNorm
            return Style(blocks=blocks, attention=attention, resample=resample, pad=pad, make_norm=norm)

        self.encoder = encoder(colours, 2 * z, widths, halve, style(blocks, 0))
        self.quant = Pointwise(2 * z, 2 * z) if quant else nn.Identity()
        self.post_quant = Pointwise(z, z) if quant else nn.Identity()
        self.decoder = decoder(z, colours, decoder_widths, double, style(blocks + 1, z))
        self.register_buffer("mean", torch.zeros(latent_channels))
        self.register_buffer("std", torch.ones(latent_channels))

    def encode(self, video: Video) -> Latent:
        """The most likely latents, of about unit variance."""
        return self._scaled(self.posterior(video)[0])

    def decode(self, latent: Latent) -> Video:
        """Pixels of scaled latents; they may leave [-1, 1] a little."""
        return self.decode_raw(self._unscaled(latent))

    def encode_stream(self, chunks: Iterable[Frames]) -> Iterator[Latent]:
        """``encode``, piece by piece: chunks of a multiple of ``stride[0]`` frames, and one more in the first."""
        for mean, _ in self._posteriors(chunks):
            yield self._scaled(mean)

    def decode_stream(self, latents: Iterable[Latent]) -> Iterator[Frames]:
        """``decode``, piece by piece: chunks of any number of latent frames."""
        return self._videos(self._unscaled(latent) for latent in latents)

    def posterior(self, video: Video) -> tuple[Moments, Moments]:
        """Mean and log-variance of the latents, unscaled."""
        self._check(video, first=True)
        time = self.stride[0]
        first, *others = self._sizes(1 + (video.shape[2] - 1) // time)
        pieces = video.split([1 + (first - 1) * time, *(size * time for size in others)], dim=2)
        means, logvars = zip(*self._posteriors(pieces), strict=True)
        return torch.cat(means, dim=2), torch.cat(logvars, dim=2)

    def decode_raw(self, latent: Latent) -> Video:
        """Pixels of latents as ``posterior`` gives them."""
        videos = self._videos(latent.split(self._sizes(latent.shape[2]), dim=2))
        if torch.is_grad_enabled():
            return torch.cat(list(videos), dim=2)
        return _filled(videos, 1 + (latent.shape[2] - 1) * self.stride[0])

    def decoder_parameters(self) -> Iterator[nn.Parameter]:
        """What makes pixels of latents: what can be trained while the latents stay as they are."""
        return chain(self.post_quant.parameters(), self.decoder.parameters())

    def encode_chunk(self, video: Video, past: Past) -> tuple[Moments, Moments, Past]:
        """Mean and log-variance for the next frames, unscaled, and what to remember.

        ``past`` is None for the first, then what the call before returned; it is used up.

        Raises:
            ValueError: a number of frames or a size that the strides do not fit; says which would.
        """
        self._check(video, first=past is None)
        x = rearrange(video, "b c t (h p) (w q) -> b (c q p) t h w", p=self.patch, q=self.patch)
        moments, past = self.encoder(x.to(self.mean.dtype), past, Chunk(first=past is None))
        mean, logvar = self.quant(moments).to(video.dtype).chunk(2, dim=1)
        return mean, logvar.clamp(*LOGVAR_RANGE), past

    def decode_chunk(self, latent: Latent, past: Past) -> tuple[Video, Past]:
        """The next frames, from unscaled latents, and what to remember.

        ``past`` is None for the first, then what the call before returned; it is used up.
        """
        z = self.post_quant(latent.to(self.mean.dtype))
        x, past = self.decoder(z, past, Chunk(first=past is None, latent=z))
        video = rearrange(x, "b (c q p) t h w -> b c t (h p) (w q)", p=self.patch, q=self.patch)
        return video.to(latent.dtype), past

    def _posteriors(self, chunks: Iterable[Frames]) -> Iterator[tuple[Moments, Moments]]:
        past: Past = None
        for video in chunks:
            mean, logvar, past = self.encode_chunk(video, past)
            yield mean, logvar

    def _videos(self, latents: Iterable[Latent]) -> Iterator[Frames]:
        past: Past = None
        for latent in latents:
            video, past = self.decode_chunk(latent, past)
            yield video

    def _sizes(self, latents: int) -> list[int]:
        """How many latent frames each chunk of a whole has; the first also has what is left over."""
        if torch.is_grad_enabled() and not self.config["norm_groups"]:
            return [latents]  # a gradient keeps all of it anyhow
        others = max((latents - 1) // self.chunk - 1, 0)
        return [latents - others * self.chunk] + [self.chunk] * others

    def _check(self, video: Video, first: bool) -> None:
        for name, size, stride in zip(("frames", "height", "width"), video.shape[2:], self.stride, strict=True):
            more = 1 if first and name == "frames" else 0
            if size < 1 or (size - more) % stride:
                below = (size - more) // stride * stride + more
                near = f"{below} or {below + stride}" if below > 0 else f"{more or stride}"
                legal = f"{'1 more than ' if more else ''}a multiple of {stride}"
                raise ValueError(f"{name} {size} will not do: this codec takes {legal}, such as {near}")

    def _scaled(self, mean: Latent) -> Latent:
        return (mean - _channels(self.mean)) / _channels(self.std)

    def _unscaled(self, latent: Latent) -> Latent:
        return latent * _channels(self.std) + _channels(self.mean)


def _filled(videos: Iterator[Frames], frames: int) -> Video:
    """One after the other, each let go when it has its place; ``cat`` would hold everything twice."""
    video = next(videos)
    whole = video.new_empty(*video.shape[:2], frames, *video.shape[3:])
    end = 0
    for part in chain([video], videos):
        start, end = end, end + part.shape[2]
        whole[:, :, start:end] = part
    return whole


def _check_levels(name: str, widths: Sequence[int], steps_name: str, steps: Sequence[str], norm_groups: int) -> None:
    if len(widths) != len(steps) + 1:
        raise ValueError(
            f"{name} has {len(widths)} levels and {steps_name} {len(steps)} steps: there is one step between two levels"
        )
    for step in steps:
        if step not in STEPS:
            raise ValueError(f"{steps_name} has the step {step!r}; the steps are {', '.join(STEPS)}")
    for width in widths:
        if norm_groups and width % norm_groups:
            raise ValueError(f"norm_groups={norm_groups} does not divide a level's width of {width}")


def _check_choices(resample: str, pad: str) -> None:
    for name, value, choices in (("resample", resample, get_args(Resample)), ("pad", pad, get_args(Pad))):
        if value not in choices:
            raise ValueError(f"{name}={value!r} will not do; what does: {', '.join(choices)}")


def _channels(values: Tensor) -> Tensor:
    return rearrange(values, "c -> c 1 1 1")
