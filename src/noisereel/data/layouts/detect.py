"""Which layout a place has: looked at in one fixed order, and the first that fits is taken and named."""

from __future__ import annotations

from pathlib import Path

from noisereel.data.layouts import hub
from noisereel.data.layouts.arrays import ARRAY_ENDINGS, array_listing, is_zarr
from noisereel.data.layouts.entries import READ, entry
from noisereel.data.layouts.files import lists_of, plain_files, two_lists
from noisereel.data.layouts.prepared import is_prepared, prepared_listing
from noisereel.data.layouts.tables import TABLE_ENDINGS, table_listing, tables_of
from noisereel.data.layouts.tar import is_packed, tar_listing
from noisereel.data.listing import Listing


def listed(place: str | Path) -> Listing:
    """What a folder, a file, or a dataset of the hub (``hf:name``) holds.

    Raises:
        ValueError: there is no such place, or it is nothing that can be read; says what would do.
    """
    if str(place).startswith(hub.PREFIX):
        return hub.by_name(str(place).removeprefix(hub.PREFIX))
    path = Path(place).expanduser()
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        return _file(path)
    raise ValueError(f"there is no folder or file {place}; a dataset of the hub is written {hub.PREFIX}owner/name")


def _folder(folder: Path) -> Listing:
    if is_prepared(folder):
        return prepared_listing(folder, listed)
    if is_zarr(folder):
        return array_listing(folder, folder.name)
    if hub.is_saved(folder):
        return hub.saved(folder)
    if tables := tables_of(folder):
        return table_listing(tables)
    if lists := lists_of(folder):
        return two_lists(*lists)
    if shards := sorted(folder.glob("*.tar")):
        return tar_listing(shards)
    return plain_files(folder)


def _file(path: Path) -> Listing:
    ending = path.suffix.lower()
    if is_packed(path):
        raise ValueError(f"{path} is compressed, so nothing can be found in it without reading it all: unpack it once")
    if ending == ".tar":
        return tar_listing([path])
    if ending in ARRAY_ENDINGS:
        return array_listing(path, path.name)
    if ending in READ:
        return entry(path, path.name, None)
    if ending in TABLE_ENDINGS:
        return table_listing([path])
    others = ", ".join(("a folder", ".tar", *TABLE_ENDINGS, *READ))
    raise ValueError(f"{path} ends in {ending or 'nothing'}, which is not read; these are: {others}")
