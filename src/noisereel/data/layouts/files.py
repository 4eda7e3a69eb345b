"""Plain files: a caption beside each, captions and files in two lists, or no captions at all."""

from __future__ import annotations

from pathlib import Path

from noisereel.data.layouts.arrays import ARRAY_ENDINGS
from noisereel.data.layouts.entries import READ, entry, named
from noisereel.data.layouts.tables import unnamed
from noisereel.data.layouts.walk import files_under
from noisereel.data.listing import Item, Listing, Skipped

LISTS = (("videos.txt", "prompts.txt"), ("videos.txt", "prompt.txt"), ("videos.txt", "captions.txt"))


def lists_of(folder: Path) -> tuple[Path, Path] | None:
    """The two lists of a folder that has them: one file a line, and one caption a line."""
    pairs = ((folder / files, folder / captions) for files, captions in LISTS)
    return next(((files, captions) for files, captions in pairs if files.is_file() and captions.is_file()), None)


def two_lists(files: Path, captions: Path) -> Listing:
    """The files of a list with the captions of another, line by line; lines without a partner are passed over."""
    names, texts = (path.read_text(encoding="utf-8-sig").rstrip().splitlines() for path in (files, captions))
    items: list[Item] = []
    skipped: list[Skipped] = []
    if len(names) != len(texts):
        reason = f"it has {len(texts)} lines and {files.name} has {len(names)}: what has no partner is not used"
        skipped.append(Skipped(name=str(captions), reason=reason))
    used: set[Path] = set()
    for number, (name, text) in enumerate(zip(names, texts, strict=False), start=1):
        where, path = f"{files}, line {number}", (files.parent / name.strip()).resolve()
        if path in used:
            skipped.append(Skipped(name=where, reason=f"it names {name}, which was named before"))
            continue
        found = named(files.parent, name.strip(), text.strip() or None, where=where)
        items += found.items
        skipped += found.skipped
        used.add(path)
    return Listing(layout=f"{files.name} and {captions.name}", items=items, skipped=skipped + unnamed([files], used))


def plain_files(folder: Path) -> Listing:
    """Every video, image and array under a folder, captioned by the ``.txt`` of the same name where there is one."""
    files, skipped = files_under(folder)
    items: list[Item] = []
    texts = {path.with_suffix(""): path for path in files if path.suffix.lower() == ".txt"}
    about = {path.with_suffix(".json") for path in files if path.suffix.lower() in ARRAY_ENDINGS}
    for path in files:
        if path.suffix.lower() in READ:
            found = _captioned(path, str(path.relative_to(folder)), texts.get(path.with_suffix("")))
            items += found.items
            skipped += found.skipped
        elif path.suffix.lower() != ".txt" and path not in about:
            skipped.append(Skipped(name=str(path), reason=f"files that end in {path.suffix or 'nothing'} are not read"))
    partners = {path.with_suffix("") for path in files if path.suffix.lower() in READ}
    lonely = sorted(text for stem, text in texts.items() if stem not in partners)
    skipped += [Skipped(name=str(text), reason="there is no video or image of that name beside it") for text in lonely]
    beside = "captions in .txt files beside them" if any(item.caption for item in items) else "no captions"
    return Listing(layout=f"files, {beside}", items=items, skipped=skipped)


def _captioned(path: Path, name: str, text: Path | None) -> Listing:
    try:
        caption = text.read_text(encoding="utf-8-sig").strip() or None if text else None
    except ValueError as error:
        return Listing(layout="nothing", skipped=[Skipped(name=str(text), reason=f"it is not UTF-8 text: {error}")])
    return entry(path, name, caption)
