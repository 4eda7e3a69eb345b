"""Clips kept as a codec made them: a diffusion model that sees a clip many times should not have it encoded as often."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from noisereel.data.cache import cache_folder
from noisereel.data.clips import Clip, Source

Encode = Callable[[Float[Tensor, "b c t h w"]], Float[Tensor, "b z _ _ _"]]


@dataclass(frozen=True, kw_only=True)
class Latents:
    """The first ``count`` clips of a source, over and over, each encoded when it is first asked for and then kept.

    They lie in a folder of their own, named after everything they depend on: what ``about`` says of the source, and the
    weights of the codec. So another encoder never meets old latents, and a run that is continued finds what it made.
    Kept in float16, which is fine enough for numbers of about unit variance.
    """

    source: Source
    count: int
    encode: Encode
    codec: nn.Module  # what ``encode`` computes with
    about: str  # the source's name, the size and rate of its clips

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"{self.count} clips to keep: pass 1 or more")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Clip:
        row = index % self.count
        if row not in self._kept.notes:
            self._add([row])
        note = self._kept.notes[row]
        return Clip(video=self._kept.latent(row), caption=note["caption"], fps=note["fps"], encoded=True)

    def fill(self, batch: int = 16) -> Iterator[int]:
        """Encode what is not there yet, several clips at a time; yields how many of ``count`` are there."""
        missing = [row for row in range(self.count) if row not in self._kept.notes]
        for start in range(0, len(missing), batch):
            self._add(missing[start : start + batch])
            yield len(self._kept.notes)

    def _add(self, rows: list[int]) -> None:
        clips = [self.source[row] for row in rows]
        latents = self._encoded(torch.stack([clip.video for clip in clips]))
        for row, clip, latent in zip(rows, clips, latents, strict=True):
            self._kept.add(row, latent, {"row": row, "caption": clip.caption, "fps": clip.fps})

    def _encoded(self, video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b z _ _ _"]:
        with torch.no_grad():
            return self.encode(video.to(next(self.codec.parameters()).device)).float().cpu()

    @cached_property
    def _kept(self) -> Kept:
        """Opened at first use: by then the codec has its final weights."""
        first = self.source[0].video
        shape = tuple(self._encoded(first[None]).shape[1:])
        name = f"{self.about} {tuple(first.shape)} {self.count} {weights_hash(self.codec)}"
        folder = cache_folder() / "latents" / hashlib.sha256(name.encode()).hexdigest()[:16]
        return Kept.open(folder, (self.count, *shape))


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Rows of numbers in one file, and in another a line about each row that is there, written after it."""

    rows: np.memmap[Any, Any]
    notes: dict[int, dict[str, Any]]
    log: Path

    @classmethod
    def open(cls, folder: Path, shape: tuple[int, ...]) -> Kept:
        """What lies in ``folder``, or the beginning of it."""
        folder.mkdir(parents=True, exist_ok=True)
        log, path = folder / "clips.jsonl", folder / "latents.f16"
        log.touch()
        size = 2 * math.prod(shape)
        with path.open("ab") as file:  # a sparse file: what is not written takes no room
            file.truncate(size)
        notes = (json.loads(line) for line in log.read_text().splitlines() if line.endswith("}"))  # the last may be cut off
        return cls(rows=np.memmap(path, np.float16, "r+", shape=shape), notes={note["row"]: note for note in notes}, log=log)

    def latent(self, row: int) -> Tensor:
        return torch.from_numpy(self.rows[row].astype(np.float32))

    def add(self, row: int, latent: Tensor, note: dict[str, Any]) -> None:
        self.rows[row] = latent.numpy()
        with self.log.open("a") as file:
            file.write(json.dumps(note) + "\n")
        self.notes[row] = note


def weights_hash(module: nn.Module) -> str:
    """A hash of all parameters and buffers: two modules that compute the same from the same names have the same."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()
