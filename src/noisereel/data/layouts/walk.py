"""The files under a folder, linked folders too, each folder once."""

from __future__ import annotations

import os
from pathlib import Path

from noisereel.data.listing import Skipped


def files_under(folder: Path) -> tuple[list[Path], list[Skipped]]:
    """Every file that is not hidden, in order; and links that lead in a circle or nowhere.

    A folder with an ending of its own, ``.zarr``, is one thing and not looked into.
    """
    files: list[Path] = []
    skipped: list[Skipped] = []
    seen: set[str] = set()
    for at, folders, names in os.walk(folder, followlinks=True):
        seen.add(os.path.realpath(at))
        for name in list(folders):
            path = Path(at, name)
            whole, again = name.endswith(".zarr"), path.is_symlink() and os.path.realpath(path) in seen
            if whole or again or name.startswith("."):
                folders.remove(name)
            if whole:
                files.append(path)
            elif again:
                skipped.append(Skipped(name=str(path), reason="this link leads to a folder that was looked through before"))
        folders.sort()
        for path in (Path(at, name) for name in names if not name.startswith(".")):
            if path.is_file():
                files.append(path)
            else:
                skipped.append(Skipped(name=str(path), reason="this link leads nowhere, or it is no file"))
    return sorted(files), skipped
