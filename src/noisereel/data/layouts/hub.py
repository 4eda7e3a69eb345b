"""Hugging Face datasets, saved to a folder or by name: rows with a video or an image, and perhaps a caption."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisereel.data.decode import Film
from noisereel.data.listing import CAPTION_COLUMNS, Item, Listing, Skipped
from noisereel.data.media import MEDIA_ENDINGS, Cell, File

PREFIX = "hf:"  # of a name on the hub
SPLIT = "train"


def is_saved(folder: Path) -> bool:
    """Whether a folder is one that ``datasets`` has saved."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def saved(folder: Path) -> Listing:
    """A dataset that ``save_to_disk`` wrote; of several splits the one called train. Errors: ValueError."""
    try:
        return _rows(_split(_library().load_from_disk(str(folder)), str(folder)), str(folder))
    except (OSError, KeyError) as error:
        raise ValueError(f"{folder} looks like a saved dataset and cannot be opened: {error}") from error


def by_name(name: str) -> Listing:
    """The training split of a dataset of the hub, downloaded to its cache unless it is there. Errors: ValueError."""
    library = _library()
    try:
        return _rows(library.load_dataset(name, split=SPLIT), name)
    except Exception as error:  # what it raises differs from host to host and version to version
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"dataset {name} cannot be opened: {reason}; a folder of clips does not need a network") from error


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ValueError("reading it takes datasets: pip install 'noisereel[datasets]'") from error
    return datasets


def _split(found: Any, place: str) -> Any:
    if not isinstance(found, dict):
        return found
    if SPLIT in found or len(found) == 1:
        return found[SPLIT if SPLIT in found else next(iter(found))]
    raise ValueError(f"{place} has the splits {', '.join(found)}, and none is called {SPLIT}: save the one that is wanted")


def _rows(table: Any, place: str) -> Listing:
    library = _library()
    media = [name for name, kind in table.features.items() if isinstance(kind, library.Video | library.Image)]
    if not media:
        raise ValueError(f"{place} has the columns {', '.join(table.features)}: none of them is a Video or an Image")
    column = media[0]
    # Paths or bytes as they are: decoding is ours.
    kind = type(table.features[column])
    table = table.cast_column(column, kind(decode=False))
    captions = next((name for name in CAPTION_COLUMNS if name in table.features), None)
    texts = table[captions][:] if captions else [None] * len(table)
    paths = table.data.column(column).combine_chunks().field("path").to_pylist() if table._indices is None else None
    items: list[Item] = []
    skipped: list[Skipped] = []
    for row in range(len(table)):
        path = paths[row] if paths else table[row][column]["path"]
        name = Path(path).name if path else ""
        where = f"{place}, row {row}"
        if Path(name).suffix.lower() not in MEDIA_ENDINGS:
            skipped.append(Skipped(name=where, reason=f"its {column} is called {name or 'nothing'}, not *.mp4 or the like"))
            continue
        outside = path and Path(path).is_file()
        source = File(Path(path)) if outside else Cell(table=place, name=name, row=row, fetch=_Bytes(table, column))
        text = texts[row]
        items.append(Item(name=f"{row} {name}", footage=Film(source), caption=str(text).strip() or None if text else None))
    others = f" (not {', '.join(media[1:])})" if media[1:] else ""
    layout = f"Hugging Face dataset, column {column}{others}, captions from {captions or 'nowhere'}"
    return Listing(layout=layout, items=items, skipped=skipped)


@dataclass(frozen=True, eq=False)
class _Bytes:
    table: Any
    column: str

    def __call__(self, row: int) -> bytes:
        held = self.table[row][self.column]["bytes"]
        if held is None:
            raise ValueError("it has neither bytes nor a file")
        return bytes(held)
