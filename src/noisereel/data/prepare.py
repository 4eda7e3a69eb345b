"""From a place with videos to a folder that names its scenes worth training on. Each file is looked at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from noisereel.data.decode import Footage
from noisereel.data.guard import Failure, guarded
from noisereel.data.inspect import Report
from noisereel.data.layouts.detect import listed
from noisereel.data.listing import Item, Skipped, reasons
from noisereel.data.prepared import INDEX, LOOKS, Kept, Looks, absolute, read_index, relative, stamp, write_index
from noisereel.data.scenes import Cuts, Look, Scene, look
from noisereel.data.sift import Rules, called, sifted

# How work on many things is shared out: a result for each task, in their order, or why there is none.
Spread = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to prepare.

    Raises:
        ValueError: numbers that make no sense, or a package that is missing.
    """

    place: str
    out: Path  # the folder to write
    rules: Rules = field(default_factory=Rules)
    cuts: Cuts = "adaptive"
    moments: int = 4  # at how many moments of each scene clips will be cut

    def __post_init__(self) -> None:
        if self.moments < 1:
            raise ValueError(f"{self.moments} moments of each scene: ask for 1 or more")
        missing = [name for name in ("scenedetect", "imagehash") if find_spec(name) is None]
        if missing:
            raise ValueError(f"preparing takes {' and '.join(missing)}: pip install 'noisereel[prepare]'")


def choose_scenes(order: Order, spread: Spread = guarded, report: Report | None = None) -> dict[str, Any]:
    """Look at all files of the place, and write which scenes are used; the facts, for JSON, with what is not used and why.

    What was looked at before is not looked at again. Files that cannot be decoded are named and passed over.

    Raises:
        ValueError: the folder holds other things, or nothing of the place can be used.
    """
    check_folder(order)
    listing = listed(order.place)
    order.out.mkdir(parents=True, exist_ok=True)
    looks = _looked(listing.items, Looks(order.out, order.cuts), partial(look, cuts=order.cuts), spread, report)
    rows = list(zip(listing.items, looks, strict=True))
    damaged = [Skipped(name=item.name, reason=found.problem) for item, found in rows if found.problem]
    by_name = {item.name: (item, found) for item, found in rows}
    kept: list[Kept] = []
    dropped: list[Skipped] = []
    seconds = 0.0
    for name, scene, reason in sifted(((item.name, found) for item, found in rows), order.rules):
        item, found = by_name[name]
        if reason:
            dropped.append(Skipped(name=called(name, scene, found), reason=reason))
        else:
            kept.append(_kept(item, scene, found))
            seconds += scene.end - scene.start
    unused = [*listing.skipped, *damaged, *dropped]
    if not kept:
        raise ValueError(f"{order.place} gives no scene to train on: {reasons(unused) or 'it is empty'}")
    write_index(order.out, order.place, order.moments, kept)
    return {
        "place": order.place,
        "out": str(order.out),
        "layout": listing.layout,
        "files": len(rows),
        "damaged": len(damaged),
        "scenes": sum(len(found.scenes) for _, found in rows),
        "used": len(kept),
        "seconds": round(seconds, 2),
        "not_used": len(unused),
        "unused": [{"name": one.name, "reason": one.reason} for one in unused],
    }


def check_folder(order: Order) -> None:
    """Refuse a folder that was not made of this place.

    Raises:
        ValueError: names what is there.
    """
    out = order.out
    if relative(order.place, out) == ".":
        raise ValueError(f"--out {out} is the place itself: choose another folder")
    if (out / INDEX).is_file():
        before, _, _ = read_index(out)
        if before != absolute(relative(order.place, out), out):
            raise ValueError(f"{out} was prepared from {before}: choose another --out")
    elif out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - {LOOKS, f"{INDEX}.part"}):
        raise ValueError(f"{out} holds something that noisereel prepare did not write: choose another --out")


def _looked(
    items: Sequence[Item], known: Looks, function: Callable[[Footage], Look], spread: Spread, report: Report | None
) -> Iterable[Look]:
    new = [item for item in items if known.get(item) is None]
    fresh = spread(function, [item.footage for item in new])
    for number, (item, found) in enumerate(zip(new, fresh, strict=True), start=1):
        known.add(item, Look(problem=found.reason) if isinstance(found, Failure) else found)
        if report:
            report(number / len(new), item.name)
    for item in items:
        found = known.get(item)
        yield found if found is not None else Look(problem="it changed while it was looked at")


def _kept(item: Item, scene: Scene, found: Look) -> Kept:
    whole = len(found.scenes) == 1
    part = None if whole else (scene.start, scene.end)
    return Kept(name=item.name, title=called(item.name, scene, found), digest=found.digest, stamp=stamp(item), part=part)
