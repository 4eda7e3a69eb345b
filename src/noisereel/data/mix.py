"""Training batches as a pure function of the step, so that a resumed run sees exactly what an uninterrupted one would."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from noisereel.data.clips import Clip, Origin, Source, caption_of, distinct_of, origin_of
from noisereel.types import Batch


@dataclass(frozen=True, kw_only=True)
class Mix:
    """Batches of videos, of images, or of videos with images appended as extra frames (Ho et al. 2022, section 3.1).

    Sample i of step s is number ``s * batch + i`` of an endless walk through the source: a sized source is walked in a new
    order each epoch, an endless one is indexed by a hash of the number and the seed. ``batch`` counts samples over all
    ranks; rank r of ``world`` yields its slice of them, so the number of ranks changes nothing else.
    With ``images_per_clip`` > 0 the frames of a sample are its video's, then that many images, and captions and fps have
    ``1 + images_per_clip`` rows for each sample. Without ``video`` the images are one-frame videos. A mix without
    ``captions`` refuses a clip that has one: what is trained on it learned from pixels alone.
    """

    video: Source | None = None
    images: Source | None = None
    batch: int
    images_per_clip: int = 0
    captions: bool = True
    seed: int = 0
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if self.video is None and self.images is None:
            raise ValueError("Mix needs a source: pass video=, images=, or both")
        if self.batch < 1 or self.batch % self.world:
            raise ValueError(
                f"batch {self.batch} cannot be shared by {self.world} ranks: pass a positive multiple of {self.world}"
            )
        if not 0 <= self.rank < self.world:
            raise ValueError(f"rank {self.rank} is not one of {self.world} ranks: pass 0 to {self.world - 1}")
        joint = self.video is not None and self.images is not None
        if self.images_per_clip < 0 or joint != (self.images_per_clip > 0):
            raise ValueError(
                f"images_per_clip is {self.images_per_clip}: "
                + ("with video and images pass 1 or more" if joint else "without both video and images pass 0")
            )

    def __call__(self, step: int) -> Batch:
        """The batch of training step ``step`` (from 0)."""
        local = self.batch // self.world
        numbers = range(step * self.batch + self.rank * local, step * self.batch + (self.rank + 1) * local)
        main = self.images if self.video is None else self.video
        assert main is not None
        index = tuple(place(main, number, self.seed) for number in numbers)
        rows = [[main[i], *self._appended(number)] for i, number in zip(index, numbers, strict=True)]
        clips = [clip for row in rows for clip in row]
        if not self.captions and any(clip.caption is not None for clip in clips):
            raise ValueError(f"this mix is of clips without captions, and one of {index} has one: draw from Pools.unlabelled")
        return Batch(
            video=torch.stack([_in_a_row(row) for row in rows]),
            captions=[clip.caption for clip in clips],
            fps=torch.tensor([float(clip.fps) for clip in clips]),
            groups=_groups(rows) if self.images_per_clip else None,
            index=index,
            encoded=clips[0].encoded,
        )

    def shared(self, rank: int, world: int) -> Mix:
        """The same batches, of which one process of several yields its slice."""
        return replace(self, rank=rank, world=world)

    def _appended(self, number: int) -> list[Clip]:
        if self.images_per_clip == 0:
            return []
        assert self.images is not None
        first = number * self.images_per_clip
        # The images have a walk of their own: seed + 1 keeps it from pairing each clip with its own frames.
        return [self.images[place(self.images, first + j, self.seed + 1)] for j in range(self.images_per_clip)]


@dataclass(frozen=True, kw_only=True)
class InTurn:
    """Batches of several kinds, such as sizes, lengths or images, each kind so many times in a round.

    A batch is all of one kind: nothing is cropped or padded to fit another (Sora trains on videos at their native size).
    """

    mixes: Sequence[Mix]
    times: Sequence[int]  # in a round, for each mix

    def __post_init__(self) -> None:
        if len(self.mixes) != len(self.times) or not self.mixes or min(self.times) < 1:
            raise ValueError(f"{len(self.mixes)} mixes taken {list(self.times)} times a round: pass a number >= 1 for each")

    def __call__(self, step: int) -> Batch:
        """The batch of training step ``step`` (from 0)."""
        round_, place_ = divmod(step, sum(self.times))
        ends = list(accumulate(self.times))
        kind = bisect_right(ends, place_)
        before = ends[kind] - self.times[kind]
        return self.mixes[kind](round_ * self.times[kind] + place_ - before)

    def shared(self, rank: int, world: int) -> InTurn:
        """The same batches, of which one process of several yields its slice."""
        return replace(self, mixes=[mix.shared(rank, world) for mix in self.mixes])


def place(source: Source, number: int, seed: int) -> int:
    """The index in ``source`` of sample ``number`` of the walk that ``seed`` names."""
    if isinstance(source, Sized):
        epoch, position = divmod(number, len(source))
        # Counting on from epoch to epoch lets a source cut a clip differently each time round.
        return epoch * len(source) + int(_order(len(source), seed, epoch)[position])
    return _hash(_hash(seed) ^ number)


def prefetch(mix: Callable[[int], Batch], *, start: int, stop: int, workers: int, depth: int = 2) -> Iterator[Batch]:
    """The batches of steps ``start`` to ``stop``, each worker process rendering up to ``depth`` of them ahead.

    The order and every value are those of calling ``mix``; with ``workers`` 0 that is what happens.
    """
    loader: DataLoader[Batch] = DataLoader(
        _Steps(mix),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        prefetch_factor=depth if workers else None,
        generator=torch.Generator(),  # else the loader draws its workers' seeds from the global generator
    )
    return iter(loader)


def limited(source: Source, count: int) -> Source:
    """The first ``count`` clips of a source, over and over: what an overfitting run trains on."""
    if count < 1:
        raise ValueError(f"limited to {count} clips: pass 1 or more")
    return _Limited(source, count)


def blended(sources: Sequence[Source], weights: Sequence[float]) -> Source:
    """An endless source that draws each clip from one of several, in proportion to ``weights``."""
    if not sources or len(sources) != len(weights) or min(weights) < 0 or sum(weights) <= 0:
        raise ValueError(f"{len(sources)} sources with weights {list(weights)}: pass one weight >= 0 for each, not all 0")
    return _Blended(tuple(sources), tuple(weights))


@dataclass(frozen=True)
class _Limited:
    source: Source
    count: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Clip:
        return self.source[index % self.count]

    def caption(self, index: int) -> str | None:
        return caption_of(self.source, index % self.count)

    def origin(self, index: int) -> Origin | None:
        return origin_of(self.source, index % self.count)

    def distinct(self) -> int:
        return min(self.count, distinct_of(self.source) or self.count)


@dataclass(frozen=True)
class _Blended:
    sources: tuple[Source, ...]
    weights: tuple[float, ...]

    def __getitem__(self, index: int) -> Clip:
        return self._chosen(index)[index]

    def caption(self, index: int) -> str | None:
        return caption_of(self._chosen(index), index)

    def origin(self, index: int) -> Origin | None:
        return origin_of(self._chosen(index), index)

    def _chosen(self, index: int) -> Source:
        at = _hash(index) / 2**48 * sum(self.weights)
        return self.sources[min(bisect_right(list(accumulate(self.weights)), at), len(self.sources) - 1)]


@dataclass(frozen=True)
class _Steps(Dataset[Batch]):
    """A mix as the indexed collection that torch's loader expects."""

    mix: Callable[[int], Batch]

    def __getitem__(self, step: int) -> Batch:
        return self.mix(step)


def _in_a_row(row: list[Clip]) -> Tensor:
    sizes = {tuple(clip.video.shape[-2:]) for clip in row}
    if len(sizes) > 1:
        raise ValueError(f"images of another size than the video cannot be appended to it: {sorted(sizes)}; use one size")
    return torch.cat([clip.video for clip in row], dim=1)


def _groups(rows: list[list[Clip]]) -> Tensor:
    """Frame -> its clip's row in captions and fps; every sample has as many clips as the first."""
    per_sample = len(rows[0])
    lengths = torch.tensor([clip.video.shape[1] for clip in rows[0]])
    first = torch.repeat_interleave(torch.arange(per_sample), lengths)
    return first + per_sample * torch.arange(len(rows))[:, None]


@lru_cache(maxsize=4)  # a batch may straddle two epochs, and images have their own walk
def _order(length: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(length, generator=torch.Generator().manual_seed(_hash(_hash(seed) ^ epoch)))


def _hash(value: int) -> int:
    """SplitMix64 (Steele et al. 2014), kept to 48 bits, which print short and overflow nowhere."""
    value = (value + 0x9E3779B97F4A7C15) % 2**64
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % 2**64
    return (value ^ (value >> 31)) % 2**48
