"""How Video LDM is trained: the autoencoder, the image model, what makes its frames a video, and what lies between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from noisereel.codecs.autoencoder import Autoencoder
from noisereel.codecs.discriminator import Adversary, PatchDiscriminator
from noisereel.codecs.features import FeatureNet
from noisereel.codecs.frame_vae import FrameVAE
from noisereel.codecs.word_reader import WordReader
from noisereel.data.clips import Source
from noisereel.data.latents import Latents
from noisereel.data.mix import InTurn, Mix
from noisereel.recipes.plan import initialised, paced
from noisereel.recipes.words import learn_words
from noisereel.stage import Stage
from noisereel.system import System
from noisereel.trainer import Phase
from noisereel.types import Batch
from noisereel.worlds.pools import Pools

Row = tuple[int, dict[str, Any]]  # samples at a time, and the other settings of a phase


def phases(system: System, preset: dict[str, Any], data: str, captions: bool, seed: int) -> list[Phase]:
    """The autoencoder and its decoder, the image network, the layers over time, and those of the stages that fill in.

    A phase of no length is left out: an image model that was taken over is not trained again.
    """
    pools = Pools.open(data, shape=system.first.shape, fps=system.first.fps)
    words = pools.captions(1500)
    learn_words(system.first.text, lambda: words)
    common: dict[str, Any] = dict(held_out=held_out(pools, preset), prompts=pools.prompts(8), decay="cosine")
    rows = {
        **codec_rows(system.first, preset, pools, words, seed),
        **network_rows(system, preset, pools, data, seed, captions=captions),
    }
    lengths = {name: preset["clips"].get(name, 0) for name in rows}
    return [
        Phase(name=name, **common | paced(lengths[name], batch) | row) for name, (batch, row) in rows.items() if lengths[name]
    ]


def codec_rows(stage: Stage, preset: dict[str, Any], pools: Pools, words: list[str], seed: int) -> dict[str, Row]:
    """What is trained of the autoencoder: all of it on images, later before a judge; on videos how its decoder mixes frames.

    Reconstructions are compared by a network that has learned to name the words of captions, where there are any.
    """
    codec, batch = stage.codec, preset["vae_batch"]
    assert isinstance(codec, FrameVAE)
    with initialised(seed):
        reader = WordReader.of(FeatureNet(stages=preset["looks"]), words) if words and preset["looks"] else None
        image_judge, video_judge = (judge(preset["adversary"]) for _ in range(2))
    shown = Mix(video=pools.held_out, batch=8)(0).video
    plain = Autoencoder(vae=codec, shown=shown, kl=1e-4, squared=1.0, features=reader.net if reader else None)
    judged = replace(plain, adversary=image_judge)
    steady = replace(plain, adversary=video_judge, motion=4.0, moving=list(codec.temporal_parameters()))
    images, videos = Mix(images=pools.images, batch=batch, seed=seed), Mix(video=pools.video, batch=batch // 4, seed=seed)
    rate = dict(learning_rate=preset["vae_rate"])
    features: dict[str, Row] = {"features": (batch, dict(target=reader, data=images, prompts=(), **rate))}
    return (features if reader else {}) | {
        "autoencoder": (batch, dict(target=plain, data=images, **rate)),
        "adversary": (batch, dict(target=judged, data=images, **rate)),
        "decoder": (batch // 4, dict(target=steady, data=videos, **rate)),
    }


def network_rows(
    system: System, preset: dict[str, Any], pools: Pools, data: str, seed: int, *, captions: bool
) -> dict[str, Row]:
    """What is trained in latents: the image network, then the layers over time alone, of the first stage and of the others.

    The stages that fill in share their network, and see short pieces of videos at each of their frame rates.
    """
    first, *others = system.stages.values()
    frames, height, width = first.shape
    batch, rate = preset["batch"], dict(learning_rate=preset["rate"])

    def latents(source: Source, kind: str, fps: float, times: int = 1) -> Latents:
        assert isinstance(first.codec, FrameVAE)
        about, count = f"{data} {kind} {fps:g}", times * preset["kept"]
        return Latents(source=source, count=count, encode=first.codec.encode, codec=first.codec, about=about)

    stills = Mix(images=latents(pools.images, "images", first.fps, times=4), batch=4 * batch, seed=seed)
    videos = Mix(video=latents(pools.video, "videos", first.fps), batch=batch, seed=seed)
    told = first if captions else replace(first, caption_dropout=1.0)
    rows: dict[str, Row] = {
        "images": (4 * batch, dict(target=first, data=stills, **rate)),
        "videos": (batch, dict(target=told, data=videos, moving=over_time(first), **rate)),
    }
    if others:
        size = (frames // 4 * 4 + 1, height, width)
        pieces = [Pools.open(data, shape=size, fps=stage.fps, seconds=frames / first.fps) for stage in others]
        mixes = [
            Mix(video=latents(some.video, "pieces", stage.fps), batch=batch, seed=seed)
            for some, stage in zip(pieces, others, strict=True)
        ]
        target = others[0] if captions else replace(others[0], caption_dropout=1.0)
        row = dict(
            target=target, data=InTurn(mixes=mixes, times=[1] * len(mixes)), held_out=held_out(pieces[0], preset), prompts=()
        )
        rows["between"] = (batch, dict(moving=over_time(target), **row, **rate))
    return rows


def judge(width: int) -> Adversary | None:
    """A discriminator of that width, if any."""
    return Adversary(net=PatchDiscriminator(width=width)) if width else None


def held_out(pools: Pools, preset: dict[str, Any]) -> Callable[[], Batch]:
    """Videos to measure on, made when they are asked for."""
    return partial(Mix(video=pools.held_out, batch=min(64, 2 * preset["batch"])), 0)


def over_time(stage: Stage) -> list[nn.Parameter]:
    """What makes a video network of an image network."""
    return list(stage.net.temporal_parameters())
