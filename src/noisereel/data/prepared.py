"""A folder that says which scenes of another place to train on: what ``noisereel prepare`` writes. It copies nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from noisereel.data.layouts.hub import PREFIX
from noisereel.data.listing import Item
from noisereel.data.scenes import Cuts, Look, Scene

INDEX = "prepared.json"  # which scenes; written last
LOOKS = "looks.jsonl"  # what looking at each file found, a line each
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A scene to train on."""

    name: str  # of its item in the place
    title: str  # its own
    digest: str  # of the bytes of its file
    stamp: str  # of its file, when it was looked at
    part: tuple[float, float] | None  # seconds; None for all of it


def write_index(folder: Path, place: str, moments: int, kept: Sequence[Kept]) -> None:
    """Say in ``folder`` which scenes of ``place`` to use, each at so many moments."""
    index = {"format": FORMAT, "place": relative(place, folder), "moments": moments, "scenes": [asdict(one) for one in kept]}
    half = folder / f"{INDEX}.part"
    half.write_text(json.dumps(index))
    half.replace(folder / INDEX)


def read_index(folder: Path) -> tuple[str, int, list[Kept]]:
    """The place, the number of moments, and the scenes. Errors: ValueError for a damaged file."""
    try:
        index = json.loads((folder / INDEX).read_text())
        if index["format"] != FORMAT:
            raise ValueError(f"its format is {index['format']}, not {FORMAT}")
        scenes = [Kept(**{**one, "part": one["part"] and tuple(one["part"])}) for one in index["scenes"]]
        return absolute(index["place"], folder), int(index["moments"]), scenes
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / INDEX} is damaged ({error}): run noisereel prepare again") from error


def relative(place: str, folder: Path) -> str:
    """A place as seen from a folder, so that both can be moved together."""
    return place if place.startswith(PREFIX) else os.path.relpath(Path(place).expanduser(), folder)


def absolute(place: str, folder: Path) -> str:
    """The place that ``relative`` wrote down."""
    return place if place.startswith(PREFIX) else os.path.normpath(folder / place)


class Looks:
    """What is known of the files of a place, kept as it is found; a cut-off line is looked for again."""

    def __init__(self, folder: Path, cuts: Cuts) -> None:
        self.path, self.cuts = folder / LOOKS, cuts
        self._known: dict[tuple[str, str], Look] = {}
        for row in _rows(self.path):
            with suppress(KeyError, TypeError, ValueError):
                if row["cuts"] == cuts:
                    self._known[row["name"], row["stamp"]] = _look(row["look"])

    def get(self, item: Item) -> Look | None:
        """What is known of an item as it is now."""
        return self._known.get((item.name, stamp(item)))

    def add(self, item: Item, found: Look) -> None:
        """Keep what was found."""
        row = {"name": item.name, "stamp": stamp(item), "cuts": self.cuts, "look": asdict(found)}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        self._known[item.name, stamp(item)] = found


def stamp(item: Item) -> str:
    """Another one whenever the item's file may have changed; of one that cannot be asked, none."""
    try:
        return item.footage.stamp()
    except OSError:
        return ""


def _rows(path: Path) -> Iterator[Mapping[str, Any]]:
    with suppress(OSError):
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                row = json.loads(line)
                if isinstance(row, dict):
                    yield row


def _look(row: Mapping[str, Any]) -> Look:
    scenes = tuple(Scene(**{**scene, "prints": tuple(scene["prints"])}) for scene in row["scenes"])
    return Look(**{**row, "scenes": scenes})
