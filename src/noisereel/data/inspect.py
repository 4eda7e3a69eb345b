"""What a place holds: counts, sizes, rates, lengths, captions, copies, damage, and what would be trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from noisereel.data.check import Finding, survey
from noisereel.data.decode import Probe
from noisereel.data.layouts.detect import listed
from noisereel.data.listing import Item, Skipped
from noisereel.data.want import Want

Report = Callable[[float, str], None]  # the share that is done, and a few words
COMMONEST = 8  # sizes and rates that are told apart


def inspect(place: str | Path, want: Want, *, whole: bool = True, report: Report | None = None) -> dict[str, Any]:
    """The facts of a place, for JSON: everything in it is either used or named under ``unused`` with the reason.

    With ``whole`` every frame is decoded, in processes of their own; else headers and first frames.

    Raises:
        ValueError: there is no such place, or it is nothing that is read.
    """
    listing = listed(place)
    rows: list[tuple[Item, Finding]] = []
    for item, found in survey(str(place), listing.items, whole=whole):
        rows.append((item, found))
        if report:
            report(len(rows) / len(listing.items), item.name)
    refused = [(item, want.refusal(found)) for item, found in rows]
    unused = [*listing.skipped, *(Skipped(name=item.name, reason=reason) for item, reason in refused if reason)]
    used = sum(reason is None for _, reason in refused)
    probes = [found.probe for _, found in rows if found.probe and not found.problem]
    return {
        "place": str(place),
        "layout": listing.layout,
        **_counts(rows),
        "sizes": _counted(f"{probe.height}x{probe.width}" for probe in probes),
        "frame_rates": _counted(f"{probe.fps:.4g}" if probe.rated else "none" for probe in probes if probe.frames > 1),
        "seconds": _lengths([probe for probe in probes if probe.frames > 1 and probe.rated]),
        "looked_at": "every frame" if whole else "headers and first frames",
        "wanted": str(want),
        "used": used,
        "not_used": len(unused),
        "unused": [{"name": one.name, "reason": one.reason} for one in unused],
        "duplicates": _copies(rows),
    }


def _counts(rows: list[tuple[Item, Finding]]) -> dict[str, Any]:
    good = [(item, found.probe) for item, found in rows if found.probe and not found.problem]
    captioned = sum(item.caption is not None for item, _ in rows)
    return {
        "videos": sum(probe.frames > 1 for _, probe in good),
        "images": sum(probe.frames == 1 for _, probe in good),
        "damaged": len(rows) - len(good),
        "megabytes": round(sum(found.bytes for _, found in rows) / 1e6, 1),
        "captioned": captioned,
        "not_captioned": len(rows) - captioned,
    }


def _counted(names: Iterable[str]) -> dict[str, int]:
    counts = Counter(names)
    common = dict(counts.most_common(COMMONEST))
    others = counts.total() - sum(common.values())
    return {**common, **({"others": others} if others else {})}


def _lengths(probes: list[Probe]) -> str:
    if not probes:
        return "none"
    lengths = sorted(probe.seconds for probe in probes)
    middle = lengths[len(lengths) // 2]
    return f"{lengths[0]:.2f} to {lengths[-1]:.2f}, half under {middle:.2f}, {sum(lengths):.1f} in all"


def _copies(rows: list[tuple[Item, Finding]]) -> list[dict[str, str]]:
    first: dict[str, str] = {}
    copies = []
    for item, found in rows:
        before = first.setdefault(found.digest, item.name) if found.digest else item.name
        if before != item.name:
            copies.append({"name": item.name, "reason": f"its bytes are those of {before}"})
    return copies
