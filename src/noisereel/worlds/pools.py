"""Training data by name: what ``--data`` can be."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from noisereel.data.buckets import Grid, Shape, best, shapes_of
from noisereel.data.check import survey
from noisereel.data.clips import Clip, Origin, Source, Unlabelled, caption_of, unlabelled
from noisereel.data.collection import Collection
from noisereel.data.decode import Probe
from noisereel.data.layouts.detect import listed
from noisereel.data.layouts.hub import PREFIX
from noisereel.data.listing import Item
from noisereel.data.mix import blended
from noisereel.data.want import Want
from noisereel.worlds.emoji import Emoji
from noisereel.worlds.shapes import Part, Shapes
from noisereel.worlds.sprites import Sprites

LEGAL = (
    "shapes, shapes-small (what fits 32 pixels), sprites=CHECKOUT, emoji=CHECKOUT, a folder or file of clips, hf:OWNER/NAME, "
    "or several joined by +, each with * and a weight if you like"
)
Kind = Literal["video", "images", "unlabelled", "held_out", "held_out_images"]
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
    def open(cls, data: str, *, shape: Shape, fps: float, seconds: float = 0.0, among: tuple[Shape, ...] = ()) -> Pools:
        """The pools called ``data``, with clips of ``shape`` (frames, height, width).

        Clips show the beginning of scenes that last ``seconds``; where that is 0, the whole of scenes as long as they are.
        Where there are several shapes to train on, videos of a place are used for that ``among`` them which they fit best.

        Raises:
            ValueError: there are none of that name; says what would do.
        """
        parts = [_open(name, shape, fps, seconds, among) for name, _ in _weighed(data)]
        weights = [weight for _, weight in _weighed(data)]

        def all_of(kind: Kind) -> Source:
            having = [(part[kind], weight) for part, weight in zip(parts, weights, strict=True) if kind in part]
            if not having:
                raise ValueError(f"{data} holds images alone, and there are no videos to train on: join some, VIDEOS+IMAGES")
            (first, _), *others = having
            return blended(*zip(*having, strict=True)) if others else first

        return cls(
            video=all_of("video"),
            images=all_of("images"),
            unlabelled=silent if isinstance(silent := all_of("unlabelled"), Unlabelled) else unlabelled(silent),
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


def _weighed(data: str) -> list[tuple[str, float]]:
    """The names that are joined by +, and how often clips come from each: what follows a star, or 1."""
    if Path(data).expanduser().exists():  # a folder may be called so
        return [(data, 1.0)]
    return [_with_weight(part.strip()) for part in data.split("+")]


def _with_weight(part: str) -> tuple[str, float]:
    name, star, weight = part.rpartition("*")
    if not star:
        return part, 1.0
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise ValueError(f"{part!r} has no weight after its star: write a number above 0, such as shapes*3")
    return name.strip(), number


def _open(name: str, shape: Shape, fps: float, seconds: float, among: tuple[Shape, ...]) -> dict[Kind, Source]:
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
    if not _is_place(name):
        raise ValueError(f"there is no training data called {name!r}; use {LEGAL}")
    place = name if name.startswith(PREFIX) else Path(name).expanduser()
    images = Collection(place=place, want=Want(**{**size, "frames": 1}))
    films = films_of(place)
    if frames > 1 and not films:
        return _stills(images)
    want = Want(**size, among=among)
    if among and not any(best(facts, among, fps) == shape for _, facts in films):
        return {}  # nothing there is used for this shape, and something is for others
    return _split(Collection(place=place, want=want), images, [item for item, _ in films])


def native_shapes(data: str, grid: Grid, most: int) -> dict[Shape, int]:
    """The shapes that the videos called ``data`` fit best, at most so many, and how many videos fit each.

    Raises:
        ValueError: no video there has a size of its own, or is long enough.
    """
    places = [name for name, _ in _weighed(data) if _is_place(name)]
    shapes = shapes_of((facts for place in places for _, facts in films_of(place)), grid, most)
    if not shapes:
        raise ValueError(
            f"{data} has no videos of a size of their own that are long enough: leave out --buckets, or use a folder"
        )
    return shapes


def _is_place(name: str) -> bool:
    return name.startswith(PREFIX) or (bool(name) and Path(name).expanduser().exists())


def films_of(place: str | Path) -> list[tuple[Item, Probe]]:
    """The videos of a place, whatever their size and length."""
    found = survey(str(place), listed(place).items)
    return [(item, one.probe) for item, one in found if one.probe and not one.problem and one.probe.frames > 1]


def _stills(images: Collection) -> dict[Kind, Source]:
    """Of a place without videos, every tenth image."""
    numbers = range(len(images))
    kept = numbers[::HELD_OUT_ONE_IN] if len(images) >= HELD_OUT_ONE_IN else numbers
    trained = [number for number in numbers if number not in kept] or numbers
    return {"images": _Chosen(images, trained), "held_out_images": _Chosen(images, kept)}


def _split(videos: Collection, images: Collection, films: Sequence[Item]) -> dict[Kind, Source]:
    """Every tenth film is kept for testing, all its scenes and single frames; of too few, none is.

    It is the same ones whatever clips are wanted: nothing is trained on in one size and tested on in another.
    """
    wholes = list(dict.fromkeys(map(_whole, films)))
    names = set(wholes[::HELD_OUT_ONE_IN]) if len(wholes) >= HELD_OUT_ONE_IN else set()
    trained, tested = (
        [[n for n, (item, _) in enumerate(clips.clips) if (_whole(item) in names) == test] for clips in (videos, images)]
        for test in (False, True)
    )
    return dict(
        video=_Chosen(videos, trained[0] or tested[0]),
        images=_Chosen(images, trained[1]),
        unlabelled=unlabelled(_Chosen(videos, trained[0] or tested[0])),
        held_out=_Chosen(videos, tested[0] or trained[0]),
        held_out_images=_Chosen(images, tested[1] or trained[1]),
    )


def _whole(item: Item) -> str:
    return item.part_of or item.name


def _world(make: Callable[..., Source]) -> dict[Kind, Source]:
    return dict(
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

    def origin(self, index: int) -> Origin:
        return self.clips.origin(self._place(index))

    def distinct(self) -> int | None:
        moments, rest = divmod(self.clips.distinct() or 0, len(self.clips))
        assert rest == 0
        return len(self) * moments or None

    def _place(self, index: int) -> int:
        round_, position = divmod(index, len(self.numbers))
        return round_ * len(self.clips) + self.numbers[position]
