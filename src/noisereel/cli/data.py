"""``noisereel data``: what a place with videos holds, and the same clips in another layout."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from noisereel.cli.parsing import Parser, close_match

USAGE = """usage: noisereel data inspect PLACE [--frames N] [--size HxW] [--fps F] [--quick] [--json]
       noisereel data convert PLACE OUT --to LAYOUT [--frames N] [--size HxW] [--fps F] [--json]
       noisereel data cache [--verify] [--json]

inspect says what is there, what of it would be trained on, and why the rest would not. convert writes the same clips in
another layout. cache says which latents are kept. A PLACE is a folder or a file of clips in any layout that is read, or
hf:OWNER/NAME.

  noisereel data inspect --help
  noisereel data convert --help
  noisereel data cache --help"""


def parse(arguments: Sequence[str]) -> Namespace | None:
    """The options of the action, or None after printing help. Errors: ValueError."""
    if not arguments or arguments[0] in ("-h", "--help"):
        if not arguments:
            raise ValueError(f"say what to do: noisereel data {_listed('or')}")
        print(USAGE)
        return None
    action, *rest = arguments
    if action not in ACTIONS:
        raise ValueError(f"data cannot {action}, only {_listed('and')}{close_match(action, ACTIONS)}")
    return ACTIONS[action](rest)


def _listed(joint: str) -> str:
    *most, last = ACTIONS
    return f"{', '.join(most)} {joint} {last}"


def _inspect_options(arguments: Sequence[str]) -> Namespace | None:
    parser = Parser("data inspect", "What a place with videos holds, and what of it would be trained on.")
    parser.add_argument("place", metavar="PLACE", help="a folder or file of clips, or hf:OWNER/NAME")
    _add_wanted(parser)
    parser.add_argument("--quick", action="store_true", help="look at headers and first frames, and not for damage further on")
    parser.set_defaults(action="inspect")
    return _checked(parser.parse(arguments))


def _convert_options(arguments: Sequence[str]) -> Namespace | None:
    from noisereel.data.convert import LAYOUTS

    parser = Parser("data convert", "The clips of a place in another layout.")
    parser.add_argument("place", metavar="PLACE", help="a folder or file of clips, or hf:OWNER/NAME")
    parser.add_argument("out", metavar="OUT", help="what to write; it must not exist yet")
    parser.add_argument("--to", choices=LAYOUTS, required=True, help="npz decodes to --size, --frames and --fps; others copy")
    _add_wanted(parser)
    parser.set_defaults(action="convert", quick=False)
    return _checked(parser.parse(arguments))


def _cache_options(arguments: Sequence[str]) -> Namespace | None:
    parser = Parser("data cache", "Which latents are kept, of which encoders.")
    parser.add_argument("--verify", action="store_true", help="read all of them, and forget those that are damaged")
    parser.set_defaults(action="cache")
    return parser.parse(arguments)


ACTIONS = {"inspect": _inspect_options, "convert": _convert_options, "cache": _cache_options}


def _add_wanted(parser: Parser) -> None:
    parser.add_argument("--frames", type=int, default=17, metavar="N", help="of the clips that are wanted (17)")
    parser.add_argument("--size", default="64x64", metavar="HxW", help="their height and width (64x64)")
    parser.add_argument("--fps", type=float, default=16.0, help="their frames per second (16)")


def _checked(options: Namespace | None) -> Namespace | None:
    if options is None:
        return None
    try:
        height, width = map(int, options.size.lower().split("x"))
    except ValueError as error:
        raise ValueError(f"--size is height x width, such as 64x64, not {options.size!r}") from error
    options.size = (height, width)
    return options


def run(options: Namespace) -> dict[str, Any]:
    """Inspect, convert, or look into the cache."""
    if options.action == "cache":
        return _cache(options.verify)
    from noisereel.cli.progress import progress
    from noisereel.data.convert import convert
    from noisereel.data.inspect import inspect
    from noisereel.data.want import Want

    height, width = options.size
    want = Want(frames=options.frames, height=height, width=width, fps=options.fps)
    if options.action == "inspect":
        with progress("looking") as report:
            result = inspect(options.place, want, whole=not options.quick, report=report)
        if not result["used"]:
            print(json.dumps(result) if options.json else told(result))
            raise ValueError(f"{options.place}: none of what is there gives {want}")
        return result
    with progress("converting") as report:
        return convert(options.place, options.out, options.to, want, report=report)


def _cache(verify: bool) -> dict[str, Any]:
    from noisereel.data.cache import cache_folder
    from noisereel.data.latents import encoders

    facts: dict[str, Any] = {"folder": str(cache_folder() / "latents"), "encoders": 0}
    for about, store in encoders():
        facts["encoders"] += 1
        said = f"{len(store)} clips, {store.size() / 1e6:.1f} MB"
        if verify:
            bad = sum(not good for good in store.verify())
            said += f"; {bad} damaged, now forgotten" if bad else "; all whole"
        facts[f"{about['codec']} {about['weights'][:4]}"] = said
    return facts


def told(result: dict[str, Any]) -> str:
    """What was found, or written, one fact a line."""
    lines = [f"{name.replace('_', ' '):16}{_said(value)}" for name, value in result.items() if not isinstance(value, list)]
    for name in ("unused", "duplicates"):
        rows = result.get(name, [])
        if rows:
            lines += ["", f"{name.replace('_', ' ')}:"]
            lines += [f"  {row['name']}: {row['reason']}" for row in rows[:50]]
            lines += [f"  ... and {len(rows) - 50} more; --json lists all"] if len(rows) > 50 else []
    return "\n".join(lines)


def _said(value: Any) -> str:
    return ", ".join(f"{part} ({count})" for part, count in value.items()) if isinstance(value, dict) else str(value)
