"""How Imagen Video is trained: each network by itself, on pieces of videos at its own size and rate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from noisereel.data.crops import cropped
from noisereel.data.mix import Mix
from noisereel.recipes.plan import paced
from noisereel.recipes.words import learn_words
from noisereel.stage import Stage
from noisereel.system import System
from noisereel.trainer import Phase
from noisereel.worlds.pools import Pools


def phases(system: System, rows: dict[str, dict[str, Any]], training: dict[str, Any], data: str, seed: int) -> list[Phase]:
    """Images for the base; then each network on videos with images appended, without the others: in any order, or at once."""
    first = Pools.open(data, shape=system.first.shape, fps=system.first.fps)
    captions = first.captions(1500)
    made = []
    for name, row in rows.items():
        target, batch = system.stages[name], row["batch"]
        learn_words(target.text, lambda: captions)
        pools = pieces(target, row, data)
        joint: dict[str, Any] = dict(images=pools.images, images_per_clip=row["images"]) if row["images"] else {}
        common: dict[str, Any] = dict(
            target=target,
            held_out=lambda pools=pools, batch=batch: Mix(video=pools.held_out, batch=2 * batch)(0),
            learning_rate=training["rate"],
            decay="cosine",
            prompts=first.prompts(8) if target.given is None else (),
        )
        if target.given is None and training["stills"]:
            alone = Mix(images=pools.images, batch=4 * batch, seed=seed)
            made.append(Phase(name=f"{name}_images", data=alone, **paced(training["stills"], alone.batch), **common))
        mix = Mix(video=pools.video, batch=batch, seed=seed, **joint)
        made.append(Phase(name=name, data=mix, **paced(row["clips"], batch), **common))
    return made


def pieces(stage: Stage, row: dict[str, Any], data: str) -> Pools:
    """What a stage is trained on: beginnings of its videos and, where its network is convolutions alone, parts of frames."""
    length, side = row["length"], row["side"]
    pools = Pools.open(data, shape=(length, *stage.shape[1:]), fps=stage.fps, seconds=stage.shape[0] / stage.fps)
    if not side or (side, side) == stage.shape[1:]:
        return pools
    videos, images = (length, side, side), (1, side, side)
    return replace(
        pools,
        video=cropped(pools.video, videos, tries=2),
        images=cropped(pools.images, images, tries=2),
        held_out=cropped(pools.held_out, videos),
    )
