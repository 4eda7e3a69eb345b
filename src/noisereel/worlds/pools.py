"""Training data by name: what ``--data`` can be."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from noisereel.data.clips import Clip, Source, Unlabelled, caption_of, unlabelled
from noisereel.data.collection import Collection
from noisereel.data.layouts.hub import PREFIX
from noisereel.data.mix import blended
from noisereel.data.want import Want
from noisereel.worlds.emoji import Emoji
from noisereel.worlds.shapes import Part, Shapes
from noisereel.worlds.sprites import Sprites

LEGAL = (
    "shapes, shapes-small (what fits 32 pixels), sprites=CHECKOUT, emoji=CHECKOUT, a folder or file of clips, hf:OWNER/NAME, "
    "or several joined by +"
)
HELD_OUT_ONE_IN = 10  # clips of a folder
LOOKED_AT = 100  # clips, in search of captions to prompt with: a folder may have none at all


@dataclass(frozen=True, kw_only=True)
class Pools:
    """Captioned videos and images, videos without captions, and captioned videos and images kept for testing."""

    video: Source
    images: Source
    unlabelled: Unlabelled  # of what no captioned video shows, where there is such; else the videos, captions withheld
    held_out: Source
    held_out_images: Source

    @classmethod
    def open(cls, data: str, *, shape: tuple[int, int, int], fps: float, seconds: float = 0.0) -> Pools:
        """The pools called ``data``, with clips of ``shape`` (frames, height, width).

        Clips show the beginning of scenes that last ``seconds``; where that is 0, the whole of scenes as long as they are.

        Raises:
            ValueError: there are none of that name; says what would do.
        """
        opened = [_open(name.strip(), shape, fps, seconds) for name in data.split("+")]
        if len(opened) == 1:
            return opened[0]

        def all_of(name: str) -> Source:
            return blended([getattr(pools, name) for pools in opened], [1.0] * len(opened))

        return cls(
            video=all_of("video"),
            images=all_of("images"),
            unlabelled=unlabelled(all_of("unlabelled")),
            held_out=all_of("held_out"),
            held_out_images=all_of("held_out_images"),
        )

    def captions(self, number: int, *, videos: bool = True) -> list[str]:
        """Captions of up to ``number`` images and as many ``videos``: what a vocabulary is learned from."""
        sources = (self.video, self.images) if videos else (self.images,)
        found = (caption_of(source, index) for source in sources for index in range(_size(source, number)))
        return [caption for caption in found if caption is not None]

    def prompts(self, number: int) -> tuple[str, ...]:
        """Captions of held-out videos, to look at while training."""
        captions = (caption_of(self.held_out, index) for index in range(_size(self.held_out, LOOKED_AT)))
        return tuple(islice((caption for caption in captions if caption is not None), number))


def _open(name: str, shape: tuple[int, int, int], fps: float, seconds: float) -> Pools:
    frames, height, width = shape
    size: dict[str, Any] = dict(frames=frames, height=height, width=width, fps=fps)
    lasting: dict[str, Any] = {**size, "seconds": seconds or frames / fps}
    kind, _, root = name.partition("=")
    if name in ("shapes", "shapes-small"):
        part: Part = "small" if name == "shapes-small" else "full"
        return _world(lambda **which: Shapes(part=part, **lasting, **which))
    if root and kind in ("sprites", "emoji"):
        world: Callable[..., Source] = Sprites if kind == "sprites" else Emoji
        return _world(lambda **which: world(root=Path(root).expanduser(), **lasting, **which))
    if not (name and Path(name).expanduser().exists()) and not name.startswith(PREFIX):
        raise ValueError(f"there is no training data called {name!r}; use {LEGAL}")
    place = name if name.startswith(PREFIX) else Path(name).expanduser()
    return _split(*(Collection(place=place, want=Want(**{**size, "frames": some})) for some in (frames, 1)))


def _split(videos: Collection, images: Collection) -> Pools:
    """Every tenth video is kept for testing, single frames of it too; in a folder that is too small, none is."""
    kept = range(0, len(videos), HELD_OUT_ONE_IN) if len(videos) >= HELD_OUT_ONE_IN else range(0)
    names = {videos.clips[number][0].name for number in kept}
    trained, tested = (
        [[n for n, (item, _) in enumerate(clips.clips) if (item.name in names) == test] for clips in (videos, images)]
        for test in (False, True)
    )
    return Pools(
        video=_Chosen(videos, trained[0]),
        images=_Chosen(images, trained[1]),
        unlabelled=unlabelled(_Chosen(videos, trained[0])),
        held_out=_Chosen(videos, tested[0] or trained[0]),
        held_out_images=_Chosen(images, tested[1] or trained[1]),
    )


def _world(make: Callable[..., Source]) -> Pools:
    return Pools(
        video=make(),
        images=make(pool="captioned_image"),
        unlabelled=unlabelled(make(pool="unlabelled_video")),
        held_out=make(split="held_out"),
        held_out_images=make(pool="captioned_image", split="held_out"),
    )


def _size(source: Source, most: int) -> int:
    """How many clips to look at: ``most``, or all where a source has fewer."""
    return min(most, len(source)) if isinstance(source, Sized) else most


@dataclass(frozen=True)
class _Chosen:
    """Some clips of a collection."""

    clips: Collection
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Clip:
        return self.clips[self._place(index)]

    def caption(self, index: int) -> str | None:
        return self.clips.caption(self._place(index))

    def _place(self, index: int) -> int:
        round_, position = divmod(index, len(self.numbers))
        return round_ * len(self.clips) + self.numbers[position]
