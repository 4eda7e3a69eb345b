"""What every source of training data yields: one clip, with its caption if it has one."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

# Captioned videos; captioned single frames whose captions hold no word that only motion could show; and videos without
# captions, of things that the captioned videos never show.
Pool = Literal["captioned_video", "captioned_image", "unlabelled_video"]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One video (an image is a one-frame video) and what is known about it."""

    video: Float[Tensor, "c t h w"]  # float32 in [-1, 1], or latents
    caption: str | None
    fps: float  # frames per second, of the pixels
    encoded: bool = False  # ``video`` holds latents


@runtime_checkable
class Source(Protocol):
    """An endless or finite row of clips; what an index gives is a pure function of the index."""

    def __getitem__(self, index: int) -> Clip: ...


@runtime_checkable
class Told(Protocol):
    """A source that knows a clip's caption without making the clip."""

    def caption(self, index: int) -> str | None: ...


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a clip is made of: two clips of the same origin have the same pixels."""

    footage: str
    caption: str | None


@runtime_checkable
class Traced(Protocol):
    """A source that may know what a clip is made of without making it."""

    def origin(self, index: int) -> Origin | None: ...


@runtime_checkable
class Numbered(Protocol):
    """A source that may know how many of its clips differ: after so many the first comes again. None: they never end."""

    def distinct(self) -> int | None: ...


def origin_of(source: Source, index: int) -> Origin | None:
    """What a clip is made of, if its source knows that."""
    return source.origin(index) if isinstance(source, Traced) else None


def distinct_of(source: Source) -> int | None:
    """How many clips of a source differ, if there is an end to them."""
    return source.distinct() if isinstance(source, Numbered) else None


def caption_of(source: Source, index: int) -> str | None:
    """The caption of a clip, without decoding it where that can be."""
    return source.caption(index) if isinstance(source, Told) else source[index].caption


@dataclass(frozen=True)
class Unlabelled:
    """The clips of a source without their captions, whatever it knows: who is handed this cannot see one."""

    source: Source

    def __getitem__(self, index: int) -> Clip:
        return replace(self.source[index], caption=None)

    def origin(self, index: int) -> Origin | None:
        known = origin_of(self.source, index)
        return known and replace(known, caption=None)

    def distinct(self) -> int | None:
        return distinct_of(self.source)


@dataclass(frozen=True)
class UnlabelledOf(Unlabelled):
    """The same of a source that has an end."""

    def __len__(self) -> int:
        assert isinstance(self.source, Sized)
        return len(self.source)


def unlabelled(source: Source) -> Unlabelled:
    """The clips of ``source`` with their captions withheld, as many as it has."""
    return (UnlabelledOf if isinstance(source, Sized) else Unlabelled)(source)
