"""The networks of Make-A-Video, and the stages that they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from noisereel.conditioning import KnownFrames, LowRes, either, every, first
from noisereel.diffusion.guidance import cfg
from noisereel.diffusion.samplers import ancestral
from noisereel.diffusion.times import stratified
from noisereel.nets.layers import ScalarEmbedding, zero
from noisereel.nets.residual import HintSkip
from noisereel.nets.unet import UNet
from noisereel.prior import Drawing, Prior
from noisereel.recipes.vdm import diffusion
from noisereel.stage import Stage
from noisereel.text.contrastive import Contrastive, TextImage
from noisereel.text.pretrained_pair import PretrainedPair
from noisereel.text.silent import Silent
from noisereel.text.small import SmallTextEncoder
from noisereel.types import Backbone

SKIP = 5  # frames from one known frame to the next in the finished video (Make-A-Video, section 3.3)

# What makes a video network of an image network: a convolution over time in series with every spatial one, attention over
# time behind that over pixels, and the frame rate; all silent at birth.
PSEUDO_3D: dict[str, Any] = dict(temporal_conv="series", temporal_attention="rotary")


def plain(net: Backbone) -> UNet:
    """The U-Net in a stage's network."""
    inner = net.net if isinstance(net, HintSkip) else net
    assert isinstance(inner, UNet)
    return inner


def prior(preset: dict[str, Any], clip: str) -> Prior:
    """The prior, on a contrastive encoder that is to be trained or on somebody's CLIP."""
    encoder: TextImage = PretrainedPair(clip) if clip else contrastive(preset)
    return Prior(encoder, drawing=Drawing(guide=cfg(preset["prior_guidance"])), **preset["prior"])


def contrastive(preset: dict[str, Any]) -> Contrastive:
    """An encoder that has learned nothing. It will not read words that no caption of an image held, such as those of motion."""
    return Contrastive(SmallTextEncoder(only_known=True, **preset["text"]), **preset["encoder"])


def decoder(preset: dict[str, Any], text: Prior) -> Stage:
    """The first videos, from image embeddings alone: of one frame it is the image network D, of several D^t."""
    codec = preset["codec"]
    dim = text.pooled_dim
    told = dict(pooled_dim=dim, scalars=("fps",)) | (dict(text_dim=dim) if preset["net"].get("pooled_tokens") else {})
    net = UNet(channels=codec.channels, **PSEUDO_3D | told | preset["net"])
    fps = net.scalars["fps"]
    assert isinstance(fps, ScalarEmbedding)
    zero(fps.mlp[-1])  # images have no frame rate: it means nothing until videos give it a meaning
    return Stage(
        net=net,
        diffusion=diffusion(preset["predicts"], preset["shift"], preset.get("draw", stratified)),
        codec=codec,
        text=text,
        shape=preset["shape"],
        fps=preset["fps"],
        guide=cfg(preset["guidance"]),
        sampler=ancestral(gamma=0.3),
        steps=preset["steps"],
    )


def between(before: Stage, piece: int) -> Stage:
    """The masked frame interpolation network: ``before`` given frames and a mask, which fills in what is not known.

    In training every 2nd to 5th frame is known, or the first alone: it interpolates at several rates and animates an image.
    It learns from pieces and runs on whole videos, so its attention reaches no farther than a ``piece``.
    """
    given = KnownFrames(which=either(every(2, 3, 4, SKIP), first(1)), spacing=SKIP, video_channels=before.codec.channels)
    frames, height, width = before.shape
    net = UNet(**plain(before.net).config | dict(hint_channels=given.channels, reach=piece))
    net.take(plain(before.net))
    shape = (SKIP * (frames - 1) + 1, height, width)
    return replace(before, net=net, given=given, shape=shape, fps=SKIP * before.fps, guide=cfg(1.0))


def upsampler(before: Stage, row: dict[str, Any], steps: int) -> Stage:
    """A super-resolution stage, told of nothing but a smaller video: in space and time, or each frame by itself."""
    frames, height, width = before.shape
    codec, space = row["codec"], row["space"]
    shape = frames, space * height, space * width
    over_time = dict(temporal_attention="none") if row["apart"] else PSEUDO_3D
    net = UNet(channels=codec.channels, hint_channels=codec.channels, scalars=("hint_noise",), **over_time, **row["net"])
    # A network that predicts the video itself says what its hint lacks.
    whole: Any = HintSkip(net) if row["predicts"] == "x0" else net
    return replace(
        before,
        net=whole,
        diffusion=diffusion(row["predicts"], row["shift"]),
        codec=codec,
        text=Silent(),
        shape=shape,
        given=LowRes(size=shape, space=space, noise=row["noise"], sample_noise=row["noise"] / 4, codec=codec),
        guide=cfg(1.0),
        steps=steps,
        apart=row["apart"],
    )
