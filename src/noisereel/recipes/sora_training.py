"""How Sora is trained: the autoencoder and its decoder, and the transformer on images and videos."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from noisereel import checkpoint
from noisereel.codecs.autoencoder import Autoencoder
from noisereel.codecs.causal_vae import CausalVAE
from noisereel.data.buckets import Grid, Shape
from noisereel.data.latents import Latents
from noisereel.data.mix import InTurn, Mix
from noisereel.pretrained.places import locate
from noisereel.recipes.plan import paced
from noisereel.recipes.words import learn_words
from noisereel.stage import Stage
from noisereel.trainer import Phase
from noisereel.worlds.pools import Pools, native_shapes

MOTION = 4.0  # weight of the change from frame to frame where the decoder is tuned against flicker


def phases(stage: Stage, preset: dict[str, Any], data: str, vae: str, buckets: int, seed: int) -> list[Phase]:
    """The autoencoder, unless there is one; the transformer on images; then on videos of all sizes and images in turn.

    A phase of no length is left out.
    """
    pools = Pools.open(data, shape=stage.shape, fps=stage.fps)
    times = native(stage, data, buckets) if buckets else {stage.shape: 3} | dict.fromkeys(preset["others"], 1)
    among = tuple(times) if buckets else ()
    assert isinstance(stage.codec, CausalVAE)
    learn_words(stage.text, lambda: pools.captions(1500))
    held_out, prompts = Mix(video=pools.held_out, batch=32)(0), pools.prompts(8)
    common: dict[str, Any] = dict(held_out=held_out, prompts=prompts, decay="cosine")

    encoding: dict[str, Any] = dict(count=preset["kept"], encode=stage.codec.encode, codec=stage.codec)
    batch, rate = preset["batch"], preset["rate"]
    stills = Mix(images=Latents(source=pools.images, about=f"{data} images", **encoding), batch=4 * batch, seed=seed)
    opened = [Pools.open(data, shape=shape, fps=stage.fps, among=among) for shape in times]
    latents = (Latents(source=of_size.video, about=f"{data} videos", **encoding) for of_size in opened)
    videos = [Mix(video=source, batch=batch, seed=seed) for source in latents]
    joint = InTurn(mixes=[*videos, replace(stills, batch=batch)], times=[*times.values(), 1])
    made = [
        Phase(name="images", target=stage, data=stills, learning_rate=rate, **paced(preset["stills"], stills.batch), **common),
        Phase(name="joint", target=stage, data=joint, learning_rate=rate, **paced(preset["clips"], batch), **common),
    ]
    if vae:
        checkpoint.load(locate(str(Path(vae).expanduser())), {"vae": stage.codec})
        return made
    return [*codec_phases(stage, preset, pools, data, seed, common), *made]


def native(stage: Stage, data: str, most: int) -> dict[Shape, int]:
    """The shapes that the videos of a folder fit best, and how many of about a dozen batches are of each."""
    grid = Grid(shape=stage.shape, stride=stage.legal_multiples(), lead=stage.codec.lead, fps=stage.fps)
    counts = native_shapes(data, grid, most)
    return {shape: max(1, round(12 * count / sum(counts.values()))) for shape, count in counts.items()}


def codec_phases(
    stage: Stage, preset: dict[str, Any], pools: Pools, data: str, seed: int, common: dict[str, Any]
) -> list[Phase]:
    """All of the autoencoder; then the decoder alone, on whole clips, also by how frames change: against flicker."""
    codec, batch = stage.codec, preset["vae_batch"]
    assert isinstance(codec, CausalVAE)
    plain = Autoencoder(vae=codec, shown=common["held_out"].video[: len(common["prompts"])], kl=1e-4, squared=1.0)
    steady = replace(plain, motion=MOTION, moving=list(codec.decoder_parameters()))
    # Short clips are many and cheap; but what later frames need is learned from whole ones alone.
    _, height, width = stage.shape
    short = Pools.open(data, shape=(1 + codec.stride[0], height, width), fps=stage.fps)
    lengths = [Mix(video=of_length.video, batch=batch, seed=seed) for of_length in (short, pools)]
    mixed, whole = InTurn(mixes=lengths, times=[2, 1]), Mix(video=pools.video, batch=batch // 2, seed=seed)
    rate = preset["vae_rate"]
    rows = {
        "autoencoder": (dict(target=plain, data=mixed, learning_rate=rate), paced(preset["pixels"], batch)),
        # At the full rate a decoder that is nearly done forgets in a hundred steps what it knew.
        "decoder": (dict(target=steady, data=whole, learning_rate=rate / 5), paced(preset["decoder"], batch // 2)),
    }
    return [Phase(name=name, **row, **pace, **common) for name, (row, pace) in rows.items() if pace["clips"]]
