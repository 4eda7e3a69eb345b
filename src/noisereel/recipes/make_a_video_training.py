"""How Make-A-Video is trained: what captions mean on images, what things look like on images, how they move on bare videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from noisereel.data.clips import Source, Unlabelled, unlabelled
from noisereel.data.crops import cropped
from noisereel.data.mix import Mix, blended
from noisereel.nets.unet import UNet
from noisereel.prior import Prior
from noisereel.recipes.make_a_video_networks import SKIP, plain
from noisereel.recipes.plan import paced
from noisereel.stage import Stage
from noisereel.system import System
from noisereel.text.contrastive import Contrastive
from noisereel.trainer import Phase
from noisereel.types import Batch
from noisereel.worlds.pools import Pools

Row = tuple[int, dict[str, Any]]  # samples at a time, and the other settings of a phase
Open = Callable[..., Pools]  # shape, fps -> the data so

RATES = (1, 2, 4)  # frame rates that videos are shown at, as multiples of the lowest
FAST = (1.0, 3.0, 6.0)  # how often each: at first those at which little changes from frame to frame
SLOW = (4.0, 2.0, 1.0)  # then those at which much does


def phases(system: System, preset: dict[str, Any], data: str, images: int, seed: int) -> list[Phase]:
    """In the paper's order: encoder and prior, images, videos, what lies between their frames, super-resolution.

    Captions are those of images alone: what is trained on videos is handed none and takes none. A phase of no length is left
    out, and so is the encoder's where it was trained elsewhere.
    """
    base = system.first
    opened = partial(Pools.open, data, seconds=base.shape[0] / base.fps)
    rows = {
        **word_rows(base, opened, preset, seed),
        **base_rows(base, opened, preset, images, seed),
        **between_rows(base, system.stages["between"], opened, preset, seed),
        **size_rows(system, opened, preset, seed),
    }
    lengths = {name: round(preset["pace"] * preset["clips"].get(name, 0)) for name in rows}
    return [
        Phase(name=name, **dict(decay="cosine") | paced(lengths[name], batch) | row)
        for name, (batch, row) in rows.items()
        if lengths[name]
    ]


def word_rows(base: Stage, opened: Open, preset: dict[str, Any], seed: int) -> dict[str, Row]:
    """What captions mean: the encoder of captions and images, and the prior between them."""
    text, pools = base.text, opened(shape=base.shape, fps=base.fps)
    assert isinstance(text, Prior)
    batch, count = preset["pairs"], min(256, 4 * preset["pairs"])
    pairs = Mix(images=pools.images, batch=batch, seed=seed)
    held_out = partial(Mix(images=pools.held_out_images, batch=count, seed=seed), 0)
    row = dict(data=pairs, held_out=held_out, learning_rate=preset["text_rate"])
    rows: dict[str, Row] = {"prior": (batch, dict(target=text, **row))}
    if not isinstance(text.encoder, Contrastive):
        return rows
    if not text.encoder.text.vocabulary.words:  # learning them again would renumber the tokens
        text.encoder.text.learn_words(pools.captions(1500, videos=False))
    return {"contrastive": (batch, dict(target=text.encoder, weight_decay=0.1, apart=False, **row)), **rows}


def base_rows(base: Stage, opened: Open, preset: dict[str, Any], images: int, seed: int) -> dict[str, Row]:
    """What things look like, on images: the image network D. Then how they move, on videos: all of D^t.

    Frame rates are high at first, so that little moves, and low later (Make-A-Video, section 3.4). ``images`` travel with each
    video, so that what videos never show is not forgotten.
    """
    net, pools, batch = plain(base.net), opened(shape=base.shape, fps=base.fps), preset["batch"]
    bare = unlabelled(pools.images)
    stills = Mix(images=bare, batch=4 * batch, captions=False, seed=seed)
    prompts = tuple(filter(None, Mix(images=pools.held_out_images, batch=8)(0).captions))
    common = dict(target=base, prompts=prompts, learning_rate=preset["rate"])
    seen = dict(held_out=held_out(pools.held_out, batch), moving=list(net.parameters()), **common)

    def videos(weights: Sequence[float]) -> Mix:
        source = at_rates(opened, base.shape, base.fps, RATES, weights)
        return Mix(
            video=source, images=bare if images else None, images_per_clip=images, batch=batch, captions=False, seed=seed
        )

    return {
        "images": (4 * batch, dict(data=stills, held_out=held_out(pools.held_out_images, batch), moving=still(net), **common)),
        "fast": (batch, dict(data=videos(FAST), **seen)),
        "videos": (batch, dict(data=videos(SLOW), **seen)),
    }


def between_rows(base: Stage, between: Stage, opened: Open, preset: dict[str, Any], seed: int) -> dict[str, Row]:
    """What lies between known frames: a copy of D^t, on short pieces at several rates, of which some frames are known."""
    net, batch, shape = plain(between.net), preset["batch"], (preset["piece"], *base.shape[1:])
    rates = [rate for rate in range(2, SKIP + 1) if preset["piece"] - 1 <= rate * base.shape[0]]  # at which a scene is as long
    source = at_rates(opened, shape, base.fps, rates, [1.0] * len(rates))
    return {
        "between": (
            batch,
            dict(
                target=between,
                begin=partial(net.take, plain(base.net)),
                data=Mix(video=source, batch=batch, captions=False, seed=seed),
                held_out=held_out(opened(shape=shape, fps=between.fps).held_out, batch),
                moving=list(net.parameters()),
                learning_rate=preset["rate"],
            ),
        )
    }


def size_rows(system: System, opened: Open, preset: dict[str, Any], seed: int) -> dict[str, Row]:
    """Super-resolution: on parts of images, and what mixes frames on parts of videos too."""
    rows: dict[str, Row] = {}
    for name, settings in preset["larger"].items():
        stage = system.stages[name]
        net, batch, (_, height, width) = plain(stage.net), settings["batch"], stage.shape
        frames, side = settings["frames"], settings["crop"]
        pools = opened(shape=(frames, height, width), fps=stage.fps)
        still_part, part = (partial(cropped, shape=(length, side, side), tries=3) for length in (1, frames))
        row = dict(target=stage, held_out=held_out(part(pools.held_out), batch), learning_rate=settings["rate"])
        stills = Mix(images=still_part(unlabelled(pools.images)), batch=4 * batch, captions=False, seed=seed)
        videos = Mix(video=part(pools.unlabelled), batch=batch, captions=False, seed=seed)
        rows[f"{name}_images"] = (4 * batch, dict(data=stills, moving=still(net), **row))
        if not stage.apart:
            rows[name] = (batch, dict(data=videos, moving=list(net.parameters()), **row))
    return rows


def at_rates(
    opened: Open, shape: tuple[int, int, int], fps: float, rates: Sequence[int], weights: Sequence[float]
) -> Unlabelled:
    """Videos without captions, at several frame rates, each as often as its weight says."""
    return unlabelled(blended([opened(shape=shape, fps=rate * fps).unlabelled for rate in rates], weights))


def held_out(source: Source, batch: int) -> Callable[[], Batch]:
    """Clips to measure on, captions withheld, made when they are asked for."""
    return partial(Mix(video=unlabelled(source), batch=min(64, 2 * batch), captions=False), 0)


def still(net: UNet) -> list[nn.Parameter]:
    """What an image network is: everything but what mixes frames, and what is told of their rate."""
    return [parameter for name, parameter in net.image_parameters().items() if not name.startswith("scalars.fps.")]
