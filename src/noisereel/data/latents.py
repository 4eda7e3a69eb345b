"""Clips kept as a codec made them: a diffusion model that sees a clip many times should not have it encoded as often."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import safetensors.torch
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from noisereel.data.cache import cache_folder
from noisereel.data.clips import Clip, Source, distinct_of, origin_of
from noisereel.data.store import KEY, Store

Encode = Callable[[Float[Tensor, "b c t h w"]], Float[Tensor, "b z _ _ _"]]

log = logging.getLogger(__name__)

ABOUT = "encoder.json"  # in a store: what made its records


@dataclass(frozen=True, kw_only=True)
class Latents:
    """The first ``count`` clips of a source, or all where fewer differ, over and over; encoded when first asked for, and kept.

    They lie in a folder for each encoder, named after its weights, by what each clip is made of: the bytes of its file, the
    moment, size and rate at which it is cut. So another encoder, or a file that has changed, never meets old latents; what is
    added to a folder is all that is encoded anew; and captions may change at any time. Sources that cannot say what their
    clips are made of, such as worlds, go by ``about``, the numbers of their clips, and what the first of them looks like.
    Kept in float16, which is fine enough for numbers of about unit variance.
    """

    source: Source
    count: int
    encode: Encode
    codec: nn.Module  # what ``encode`` computes with
    about: str = ""  # the source's name

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"{self.count} clips to keep: pass 1 or more")

    def __len__(self) -> int:
        return min(self.count, distinct_of(self.source) or self.count)

    def __getitem__(self, index: int) -> Clip:
        row = index % len(self)
        record = self.store.get(self.key(row))
        if record is None:
            self.store.refresh()  # another process may have made it
            record = self.store.get(self.key(row)) or self.add([row], [self.source[row]])[0]
        return self._clip(row, record)

    def missing(self) -> list[int]:
        """The numbers of the clips that are not there yet."""
        return [row for row in range(len(self)) if self.key(row) not in self.store]

    def fill(self, batch: int = 16, workers: int = 0) -> Iterator[int]:
        """Encode what is not there yet, several clips at a time, which processes decode ahead; yields how many are there."""
        rows = self.missing()
        parts = [rows[start : start + batch] for start in range(0, len(rows), batch)]
        done = len(self) - len(rows)
        for part, clips in zip(parts, _read_ahead(self.source, parts, workers), strict=True):
            self.add(part, clips)
            done += len(part)
            yield done

    def add(self, rows: Sequence[int], clips: Sequence[Clip]) -> list[bytes]:
        """Encode and keep clips of those numbers."""
        records = self.records(rows, clips)
        self.store.add(dict(zip(map(self.key, rows), records, strict=True)))
        return records

    def records(self, rows: Sequence[int], clips: Sequence[Clip]) -> list[bytes]:
        """What would be kept of clips of those numbers."""
        latents = self._encoded(torch.stack([clip.video for clip in clips]))
        return [self._record(row, clip, latent) for row, clip, latent in zip(rows, clips, latents, strict=True)]

    def key(self, row: int) -> bytes:
        """The name of a clip's latents: everything they depend on, the encoder aside."""
        origin = origin_of(self.source, row)
        made_of = f"{self._name} {row}" if origin is None else origin.footage
        return hashlib.blake2b(made_of.encode(), digest_size=KEY).digest()

    def _record(self, row: int, clip: Clip, latent: Float[Tensor, "z _ _ _"]) -> bytes:
        """A caption that can change is not kept; that of another clip in the place of a damaged one is."""
        origin = origin_of(self.source, row)
        told = {"caption": clip.caption} if origin is None or clip.caption != origin.caption else {}
        return safetensors.torch.save({"latents": latent.half().contiguous()}, {"about": json.dumps({"fps": clip.fps, **told})})

    def _clip(self, row: int, record: bytes) -> Clip:
        about = _about(record)
        origin = origin_of(self.source, row)
        caption = about.get("caption", origin.caption if origin else None)
        latent = safetensors.torch.load(record)["latents"].float()
        return Clip(video=latent, caption=caption, fps=about["fps"], encoded=True)

    def _encoded(self, video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b z _ _ _"]:
        with torch.no_grad():
            return self.encode(video.to(next(self.codec.parameters()).device)).float().cpu()

    @cached_property
    def store(self) -> Store:
        """Opened at first use: by then the codec has its final weights."""
        return opened(self.codec, self)

    @cached_property
    def _name(self) -> str:
        first = self.source[0]
        looks = hashlib.sha256(first.video.numpy().tobytes()).hexdigest()
        return f"{self.about} {tuple(first.video.shape)} {first.fps} {looks}"


def opened(codec: nn.Module, latents: Latents) -> Store:
    """What is kept of an encoder; says so where these clips are kept of another one only."""
    name = weights_hash(codec)[:16]
    store = Store(cache_folder() / "latents" / name)
    key = latents.key(0)
    if key not in store:
        others = (Store(path.parent) for path in store.folder.parent.glob(f"*/{ABOUT}") if path.parent != store.folder)
        if any(key in other for other in others):
            log.warning("latents of these clips are kept, but of another encoder: they are made anew with this one")
        store.folder.mkdir(parents=True, exist_ok=True)
        (store.folder / ABOUT).write_text(json.dumps({"codec": type(codec).__name__, "weights": name}) + "\n")
    return store


def encoders() -> Iterator[tuple[dict[str, Any], Store]]:
    """What is kept: what each encoder is, and its records."""
    for path in sorted((cache_folder() / "latents").glob(f"*/{ABOUT}")):
        yield json.loads(path.read_text()), Store(path.parent)


def weights_hash(module: nn.Module) -> str:
    """A hash of all parameters and buffers, and of the configuration: modules that compute the same have the same."""
    digest = hashlib.sha256(json.dumps(getattr(module, "config", None), sort_keys=True, default=str).encode())
    for name, tensor in sorted(module.state_dict().items()):
        if isinstance(tensor, Tensor):
            digest.update(f"{name} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Parts(Dataset[list[Clip]]):
    """Clips of a source, several at a time."""

    source: Source
    parts: list[list[int]]

    def __getitem__(self, number: int) -> list[Clip]:
        return [self.source[row] for row in self.parts[number]]


def _read_ahead(source: Source, parts: list[list[int]], workers: int) -> Iterator[list[Clip]]:
    loader: DataLoader[list[Clip]] = DataLoader(
        _Parts(source, parts),
        batch_size=None,
        sampler=range(len(parts)),
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        generator=torch.Generator(),
    )
    return iter(loader)


def _about(record: bytes) -> dict[str, Any]:
    """What safetensors keeps beside the numbers."""
    size = int.from_bytes(record[:8], "little")
    return json.loads(json.loads(record[8 : 8 + size])["__metadata__"]["about"])
