"""What ``noisereel prepare`` wrote: scenes of another place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from noisereel.data.decode import Excerpt
from noisereel.data.listing import Item, Listing, Skipped
from noisereel.data.prepared import INDEX, Kept, read_index, stamp


def is_prepared(folder: Path) -> bool:
    """Whether ``prepare`` has finished a folder."""
    return (folder / INDEX).is_file()


def prepared_listing(folder: Path, listed: Callable[[str], Listing]) -> Listing:
    """The scenes that a prepared folder names, captioned as the place they come from says today.

    ``listed`` says what that place holds. Files that have changed since are passed over.
    """
    place, moments, kept = read_index(folder)
    items = {item.name: item for item in listed(place).items}
    known: list[Item] = []
    skipped: list[Skipped] = []
    for one in kept:
        item = items.get(one.name)
        if item is None:
            skipped.append(Skipped(name=one.title, reason=f"it is not in {place} any more"))
        elif stamp(item) != one.stamp:
            skipped.append(Skipped(name=one.title, reason="its file has changed since: run noisereel prepare again"))
        else:
            known.append(_scene(item, one))
    layout = f"scenes of {place}, each at {moments} moments"
    return Listing(layout=layout, items=known, skipped=skipped, moments=moments)


def _scene(item: Item, one: Kept) -> Item:
    if one.part is None:
        return Item(name=one.title, footage=item.footage, caption=item.caption, digest=one.digest, part_of=item.name)
    start, end = one.part
    return Item(
        name=one.title,
        footage=Excerpt(footage=item.footage, start=start, end=end),
        caption=item.caption,
        digest=f"{one.digest} {start} {end}",
        part_of=item.name,
    )
