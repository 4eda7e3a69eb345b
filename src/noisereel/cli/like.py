"""``generate --like``: the options that made a file, read back from it."""

from __future__ import annotations

import hashlib
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from noisereel import __version__

PLAIN = ("seed", "model", "steps", "guidance", "negative", "height", "width", "fps", "scale", "extend", "lora")
FILES = ("image", "clip")
HASHED = "sha256:"


def repeated_from(options: Namespace) -> Namespace:
    """The options with everything that was not given taken from the file that ``--like`` names.

    Raises:
        ValueError: the file is missing, or does not say how it was made, or what it began with is gone.
    """
    note = note_of(options.like)
    said = vars(options)
    taken: dict[str, Any] = {name: note.get(name) for name in PLAIN}
    taken["prompt"] = [note["prompt"]]
    taken |= {name: beginning(options, name, note[name]) if name in note else None for name in FILES}
    taken["between"] = [Path(path) for path in note["between"]] if "between" in note else None
    taken["frames"] = None if taken["extend"] or taken["between"] else note.get("frames")
    taken |= {name: bool(note.get(name)) for name in ("sheet", "transparent")}
    left_out = {name for name, given in said.items() if given is None or given is False or given == []}
    merged = Namespace(**{**said, **{name: taken[name] for name in left_out if name in taken}})
    if merged.output is None:
        merged.output = beside(options.like)
    for path in [merged.image, merged.clip, *(merged.between or [])]:
        if path is not None and not Path(path).is_file():
            raise ValueError(f"{options.like} began with {path}, which is not here: say where it is with --image or --clip")
    remark(note, options.like)
    return merged


def beginning(options: Namespace, name: str, said: str) -> Path:
    """The image or clip that the file began with: where it was, or for one that was sent to a server, the one given now.

    Raises:
        ValueError: it was sent to a server, which kept only its SHA-256, and is not given.
    """
    if not said.startswith(HASHED):
        return Path(said)
    given: Path | None = getattr(options, name)
    if given is None:
        raise ValueError(f"{options.like} began with a file that was sent to a server ({said}): give it with --{name}")
    if given.is_file() and HASHED + hashlib.sha256(given.read_bytes()).hexdigest() != said:
        print(f"noisereel: {given} is not the file that {options.like} began with", file=sys.stderr)
    return given


def note_of(path: Path) -> dict[str, Any]:
    """What the file says of how it was made.

    Raises:
        ValueError: it says nothing.
    """
    from noisereel.data.writer import read_metadata

    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    try:
        note = read_metadata(path)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} is no video or image that can be read") from error
    if not isinstance(note.get("prompt"), str) or not isinstance(note.get("seed"), int):
        raise ValueError(f"{path} does not say how it was made: noisereel did not make it, or something has stripped it")
    return note


def beside(path: Path) -> Path:
    """A name for the repetition that does not overwrite what it repeats."""
    return Path(f"{path.stem}-again{path.suffix}")


def remark(note: dict[str, Any], path: Path) -> None:
    """Say what may keep the repetition from being exact."""
    if note.get("noisereel") != __version__:
        print(f"noisereel: {path} was made by version {note.get('noisereel')}, this is {__version__}", file=sys.stderr)
    if note.get("batch", 1) > 1:
        print(
            f"noisereel: {path} was one of a batch of {note['batch']}; alone it is the same to within a level of brightness",
            file=sys.stderr,
        )
