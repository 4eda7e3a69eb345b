"""Training data by name: the pools that the recipes draw from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count, islice

from noisereel.data.clips import Source
from noisereel.worlds.shapes import Shapes

LEGAL = "shapes (the whole shapes world) or shapes-small (the part of it that fits 32 pixels)"


@dataclass(frozen=True, kw_only=True)
class Pools:
    """Captioned videos, captioned images and unlabelled videos of one kind, and captioned videos kept for testing."""

    video: Source
    images: Source
    unlabelled: Source
    held_out: Source

    @classmethod
    def open(cls, data: str, *, shape: tuple[int, int, int], fps: float) -> Pools:
        """The pools called ``data``, with clips of ``shape`` (frames, height, width).

        Raises:
            ValueError: there are none of that name; names those there are.
        """
        parts = {"shapes": "full", "shapes-small": "small"}
        if data not in parts:
            raise ValueError(f"there is no training data called {data!r}; use {LEGAL}")
        frames, height, width = shape

        def world(**which: str) -> Shapes:
            return Shapes(part=parts[data], frames=frames, height=height, width=width, fps=fps, seconds=frames / fps, **which)

        return cls(
            video=world(),
            images=world(pool="captioned_image"),
            unlabelled=world(pool="unlabelled_video"),
            held_out=world(split="held_out"),
        )

    def captions(self, number: int) -> list[str]:
        """The captions of the first ``number`` videos and as many images: what a vocabulary is learned from."""
        clips = (source[index] for source in (self.video, self.images) for index in range(number))
        return [clip.caption for clip in clips if clip.caption is not None]

    def prompts(self, number: int) -> tuple[str, ...]:
        """Captions of held-out videos, to look at while training."""
        captions = (self.held_out[index].caption for index in count())
        return tuple(islice((caption for caption in captions if caption is not None), number))
