"""What a file that a layout names becomes: an item, several, or a reason why it is none."""

from __future__ import annotations

import os
from pathlib import Path

from noisereel.data.decode import Film
from noisereel.data.layouts.arrays import ARRAY_ENDINGS, array_listing
from noisereel.data.listing import Item, Listing, Skipped
from noisereel.data.media import MEDIA_ENDINGS, File

READ = (*MEDIA_ENDINGS, *ARRAY_ENDINGS)


def named(folder: Path, name: str, caption: str | None, *, where: str) -> Listing:
    """The items of a file that something at ``where`` names, relative to ``folder``; the file must lie in it."""
    path = Path(os.path.normpath(folder / name))  # as it is written: a link that was put into the folder may lead out of it
    if not path.is_relative_to(os.path.normpath(folder)):
        return _none(where, f"it names {name}, which is outside the folder: move the file there, or a link to it")
    if not path.exists():
        return _none(where, f"it names {name}, which is not there")
    if path.suffix.lower() not in READ:
        return _none(where, f"it names {name}, and files of this ending are not read: {', '.join(READ)} are")
    return entry(path, name, caption)


def entry(path: Path, name: str, caption: str | None) -> Listing:
    """The items of one file whose ending is of those in ``READ``."""
    if path.suffix.lower() in ARRAY_ENDINGS:
        return array_listing(path, name, caption)
    return Listing(layout="a file", items=[Item(name=name, footage=Film(File(path)), caption=caption)])


def _none(where: str, reason: str) -> Listing:
    return Listing(layout="nothing", skipped=[Skipped(name=where, reason=reason)])
