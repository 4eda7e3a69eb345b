"""Tables of metadata: rows of jsonl, json, csv and parquet that name files and captions."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from noisereel.data.layouts.entries import READ, named
from noisereel.data.layouts.walk import files_under
from noisereel.data.listing import CAPTION_COLUMNS, FILE_COLUMNS, Item, Listing, Skipped, caption_of

TRAIN = "train"
TABLE_ENDINGS = (".jsonl", ".csv", ".parquet", ".json")
Row = Mapping[str, Any]


def tables_of(folder: Path) -> list[Path]:
    """The tables that describe a folder's files: ``metadata.*`` in it or in its subfolders, or else one of another name."""
    found = _called(folder, "metadata") or [path for at in sorted(folder.glob("*/")) for path in _called(at, "metadata")]
    return found or [path for path in _called(folder, "*") if _names_files(path)][:1]


def table_listing(tables: list[Path]) -> Listing:
    """The files that the tables name, with their captions; files beside them that no table names are passed over.

    Of the tables of several splits, that of the folder ``train`` alone is read.
    """
    training = [table for table in tables if table.parent.name == TRAIN] or tables
    skipped = [Skipped(name=str(table), reason=f"only {TRAIN} is used") for table in tables if table not in training]
    items: list[Item] = []
    used: set[Path] = set()
    tables = training
    for table in tables:
        for place, row in rows(table):
            where, file = f"{table}, {place}", None if isinstance(row, Skipped) else _file(row)
            if isinstance(row, Skipped):
                skipped.append(row)
            elif file is None:
                columns = ", ".join(map(str, row)) or "nothing"
                reason = f"it names no file: it has {columns}, not {' or '.join(FILE_COLUMNS)}"
                skipped.append(Skipped(name=where, reason=reason))
            elif (path := (table.parent / file).resolve()) in used:
                skipped.append(Skipped(name=where, reason=f"it names {file}, which was named before"))
            else:
                found = named(table.parent, file, caption_of(row), where=where)
                # Tables of several folders may name files alike.
                prefix = f"{table.parent.name}/" if len(tables) > 1 else ""
                items += [replace(item, name=f"{prefix}{item.name}") for item in found.items]
                skipped += found.skipped
                used.add(path)
    layout = f"files named by {', '.join(map(str, tables))}"
    return Listing(layout=layout, items=items, skipped=skipped + unnamed(tables, used))


def unnamed(tables: list[Path], used: set[Path]) -> list[Skipped]:
    """The files around tables that none of them names, and links around them that lead nowhere."""
    skipped: dict[str, Skipped] = {}
    for table in tables:
        files, broken = files_under(table.parent)
        skipped |= {one.name: one for one in broken}
        for path in files:
            if path.suffix.lower() in READ and path.resolve() not in used:
                skipped[str(path)] = Skipped(name=str(path), reason=f"{table.name} does not name it")
    return list(skipped.values())


def rows(path: Path) -> Iterator[tuple[str, Row | Skipped]]:
    """Each row with its place, or why there is none. A table that cannot be read to its end is a reason too."""
    try:
        yield from {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet, ".json": _json}[path.suffix.lower()](path)
    except (ValueError, OSError, csv.Error) as error:  # text that is not text, json that is cut off
        yield "", Skipped(name=str(path), reason=f"this table cannot be read: {error}")


def _file(row: Row) -> str | None:
    return next((str(row[name]) for name in FILE_COLUMNS if row.get(name)), None)


def _called(folder: Path, stem: str) -> list[Path]:
    return [path for ending in TABLE_ENDINGS for path in sorted(folder.glob(f"{stem}{ending}"))]


def _names_files(table: Path) -> bool:
    _, first = next(rows(table), ("", {}))
    return not isinstance(first, Skipped) and any(name in first for name in FILE_COLUMNS)


def _jsonl(path: Path) -> Iterator[tuple[str, Row | Skipped]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    row = Skipped(name=f"{path}, line {number}", reason=f"it is not JSON: {error}")
                yield f"line {number}", _object(row, f"{path}, line {number}")


def _json(path: Path) -> Iterator[tuple[str, Row | Skipped]]:
    listed = json.loads(path.read_text(encoding="utf-8-sig"))
    if not isinstance(listed, list):
        raise ValueError("it is not a list of objects with file_name and text")
    for number, row in enumerate(listed, start=1):
        yield f"row {number}", _object(row, f"{path}, row {number}")


def _object(row: Any, where: str) -> Row | Skipped:
    if isinstance(row, dict | Skipped):
        return row
    return Skipped(name=where, reason="it is not an object: write one object with file_name and text for each clip")


def _csv(path: Path) -> Iterator[tuple[str, Row | Skipped]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.DictReader(file, restkey=""), start=1):
            yield f"row {number}", row


def _parquet(path: Path) -> Iterator[tuple[str, Row | Skipped]]:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError("it takes pyarrow: pip install 'noisereel[datasets]'") from error
    with pyarrow.parquet.ParquetFile(path) as file:
        known = [name for name in file.schema_arrow.names if name in (*FILE_COLUMNS, *CAPTION_COLUMNS)]
        kept = (row for batch in file.iter_batches(columns=known) for row in batch.to_pylist())
        for number, row in enumerate(kept, start=1):
            yield f"row {number}", row or dict.fromkeys(file.schema_arrow.names)
