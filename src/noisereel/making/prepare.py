"""Latents of a prepared folder, made before training: here, or by many machines."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from torch import nn

from noisereel.data.cache import cache_folder
from noisereel.data.clips import distinct_of
from noisereel.data.guard import Failure
from noisereel.data.inspect import Report
from noisereel.data.latents import Latents
from noisereel.data.prepare import Spread
from noisereel.making.device import pick
from noisereel.pipeline import TextToVideo
from noisereel.stage import Stage
from noisereel.worlds.pools import Pools

KINDS = ("video", "images")  # of clips that training on latents asks for
RECORD = 200  # bytes that a record takes beside its numbers, about
PART = 8  # clips that are encoded together


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A trained model's autoencoder and what it is to encode: every clip of a prepared folder that training may ask for."""

    model: str
    folder: Path
    device: str | None = None

    def stage(self) -> Stage:
        """The stage whose autoencoder it is.

        Raises:
            ValueError: there is no such model, or it works on pixels, which need no preparing.
        """
        return _stage(self.model)

    def seconds(self) -> float:
        """How long a clip lasts."""
        stage = self.stage()
        return stage.shape[0] / stage.fps

    def latents(self) -> dict[str, Latents]:
        """For each kind the clips, encoded as they are asked for."""
        return _latents(self)

    def estimate(self) -> dict[str, Any]:
        """How many clips are to be encoded, how many are already, and the bytes that they all take.

        Raises:
            ValueError: there is not enough room on the disk.
        """
        kinds = self.latents().values()
        clips, missing = sum(map(len, kinds)), sum(len(one.missing()) for one in kinds)
        size = sum(len(one) * (RECORD + 2 * one[0].video.numel()) for one in kinds)
        needed, free = size * missing // max(1, clips), _free(cache_folder())
        if needed > free:
            raise ValueError(
                f"the latents take {needed / 1e6:.1f} MB and {cache_folder()} has {free / 1e6:.1f} MB left: "
                "make room, set NOISEREEL_CACHE to a larger disk, or ask for fewer --moments"
            )
        return {"latents": clips, "latents_there": clips - missing, "megabytes": round(size / 1e6, 1)}

    def fill(self, spread: Spread | None, workers: int, report: Report | None = None) -> None:
        """Encode what is missing: here, while ``workers`` processes decode, or wherever ``spread`` sends it.

        Raises:
            ValueError: some could not be encoded, with the reason; the rest is kept.
        """
        kinds = self.latents()
        total = sum(len(latents.missing()) for latents in kinds.values())
        made = 0
        for kind, latents in kinds.items():
            there = len(latents) - len(latents.missing())
            counts = latents.fill(PART, workers) if spread is None else self._filled(kind, latents, spread)
            for count in counts:
                if report:
                    report((made + count - there) / total, f"{count} of {len(latents)} clips ({kind})")
            made += len(latents) - there

    def _filled(self, kind: str, latents: Latents, spread: Spread) -> Iterator[int]:
        """Others encode, and this process alone writes: what is made twice after a breakdown is kept once."""
        rows = latents.missing()
        done = len(latents) - len(rows)
        parts = [rows[start : start + PART] for start in range(0, len(rows), PART)]
        for part, records in zip(parts, spread(partial(encode, self, kind), parts), strict=True):
            if isinstance(records, Failure):
                raise ValueError(f"encoding clips {part[0]} to {part[-1]} failed: {records.reason}; the rest is kept")
            latents.store.add(dict(zip(map(latents.key, part), records, strict=True)))
            done += len(part)
            yield done


def encode(encoder: Encoder, kind: str, rows: Sequence[int]) -> list[bytes]:
    """The records of clips, made and not kept; the model stays open for the next."""
    latents = encoder.latents()[kind]
    return latents.records(rows, [latents.source[row] for row in rows])


@lru_cache(maxsize=1)
def _latents(encoder: Encoder) -> dict[str, Latents]:
    stage = _stage(encoder.model)
    codec = stage.codec
    assert isinstance(codec, nn.Module)
    codec.to(pick(encoder.device)).eval()
    pools = Pools.open(str(encoder.folder), shape=stage.shape, fps=stage.fps)
    made: dict[str, Latents] = {}
    for kind in KINDS:
        source = getattr(pools, kind)
        count = distinct_of(source)
        assert count is not None  # a prepared folder numbers its moments
        made[kind] = Latents(source=source, count=count, encode=stage.codec.encode, codec=codec)
    return made


@lru_cache(maxsize=1)
def _stage(model: str) -> Stage:
    stage = next(iter(TextToVideo.from_pretrained(model).system.stages.values()))
    if not isinstance(stage.codec, nn.Module):
        raise ValueError(f"model {model!r} works on pixels, which need no latents: --model none")
    return stage


def _free(folder: Path) -> int:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free
