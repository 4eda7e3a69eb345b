"""Somebody's videos and images, in any layout, as a source of clips of one size, length and rate."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from noisereel.data.clips import Clip, Origin
from noisereel.data.decode import Probe
from noisereel.data.layouts.detect import listed
from noisereel.data.listing import Item, Listing, Skipped, reasons
from noisereel.data.reader import read_clip
from noisereel.data.want import Want, sorted_out

_FORMAT = 1  # of what is made of footage; another number, and what was kept of it is made anew

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Collection:
    """The clips of a place (see ``layouts.detect``), as they are wanted; ``frames`` 1 is images and frames of videos.

    Index i is clip ``i % len``; each time round, a clip is cut at another moment. What cannot be used is passed over with a
    warning that says why; a clip that turns out to be damaged while it is decoded is replaced by the next, and named.

    Raises:
        ValueError: nothing there can be used.
    """

    place: str | Path
    want: Want

    def __post_init__(self) -> None:
        if not self.clips:
            raise ValueError(f"{self.place} gives no {self.want}: {reasons(self.unused) or 'it is empty'}")

    @cached_property
    def clips(self) -> list[tuple[Item, Probe]]:
        """What is used, with what is known of it."""
        return self._sorted_out[0]

    @property
    def unused(self) -> list[Skipped]:
        """What is not used, and why."""
        return self._sorted_out[1]

    @cached_property
    def _sorted_out(self) -> tuple[list[tuple[Item, Probe]], list[Skipped]]:
        listing = self._listing
        used, unused = sorted_out(str(self.place), listing, self.want)
        captioned = sum(item.caption is not None for item, _ in used)
        if used:  # else one line says it all
            log.info("%s: %s; %d %s, %d captioned", self.place, listing.layout, len(used), self.want, captioned)
        if used and unused:
            log.warning("%s: %d not used: %s", self.place, len(unused), reasons(unused))
        return used, unused

    @cached_property
    def _listing(self) -> Listing:
        return listed(self.place)

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Clip:
        for number in range(index, index + min(len(self), 10)):
            item, facts = self.clips[number % len(self)]
            try:
                return self._cut(item, facts, index)
            except ValueError as error:
                log.warning("%s is replaced by the next clip: %s", item.name, error)
        raise ValueError(f"{self.place}: ten clips in a row cannot be decoded; look with noisereel data inspect")

    def caption(self, index: int) -> str | None:
        """What the clip of that index is told to show."""
        return self.clips[index % len(self)][0].caption

    def origin(self, index: int) -> Origin:
        """What the clip of that index is made of: the same bytes at the same moment, as they are wanted."""
        item, facts = self.clips[index % len(self)]
        footage = item.digest or f"{Path(str(item.footage)).absolute()} {item.footage.stamp()}"
        moment = f"{footage} from {self._start(item, facts, index):.6f} s, {self.want}, {_FORMAT}"
        return Origin(footage=moment, caption=item.caption)

    def distinct(self) -> int | None:
        """How many clips there are before the first comes again, where their moments are numbered."""
        moments = self._listing.moments
        return len(self) * moments if moments else None

    def _start(self, item: Item, facts: Probe, index: int) -> float:
        """The moment at which the clip begins: a function of its name and of how often it was its turn."""
        turn = index // len(self)
        moment = turn % self._listing.moments if self._listing.moments else turn
        seed = hashlib.sha256(f"{item.name} {moment}".encode()).digest()
        spare = max(0.0, facts.seconds - self.want.seconds(facts))
        return spare * np.random.default_rng(int.from_bytes(seed[:8])).random()

    def _cut(self, item: Item, facts: Probe, index: int) -> Clip:
        want, rate = self.want, self.want.rate(facts)
        start = self._start(item, facts, index)
        video = read_clip(
            item.footage, frames=want.frames, height=want.height, width=want.width, fps=rate, start=start, facts=facts
        )
        if len(video) != want.channels:
            video = video.expand(want.channels, -1, -1, -1)  # grey is grey in every channel
        return Clip(video=video, caption=item.caption, fps=want.fps)
