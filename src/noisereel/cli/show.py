"""``noisereel show``: what a model, or a file that was generated, says about itself."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from noisereel.cli.parsing import Parser

WIDTH = 100  # of a printed line


def parse(arguments: Sequence[str]) -> Namespace | None:
    """The verb's options."""
    parser = Parser("show", "What a model, or a generated file, says about itself.")
    parser.add_argument(
        "what", metavar="MODEL|FILE", help="a shipped model, a folder, a name on the hub; or a video or image file"
    )
    return parser.parse(arguments)


def run(options: Namespace) -> dict[str, Any]:
    """The facts of a file if there is one of that name, else of the model."""
    path = Path(options.what)
    return about_file(path) if path.is_file() else about_model(options.what)


def told(result: dict[str, Any]) -> str:
    """One fact a line."""
    import textwrap

    lines = []
    for name, value in result.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        elif isinstance(value, list):
            value = ", ".join(map(str, value))
        indent = " " * 16
        lines.append(textwrap.fill(f"{name:16}{value}", WIDTH, subsequent_indent=indent, break_on_hyphens=False))
    return "\n".join(lines)


def about_file(path: Path) -> dict[str, Any]:
    """What its container says, and what the model that made it left in it.

    Raises:
        ValueError: not a video or image.
    """
    from noisereel.data.reader import probe
    from noisereel.data.writer import read_metadata
    from noisereel.making.credentials import read_credentials

    signed = read_credentials(path)
    credentials = {} if signed is None else {"credentials": {name: value for name, value in signed.items() if name != "recipe"}}
    return {"path": str(path), **asdict(probe(path)), "made_with": read_metadata(path), **credentials}


def about_model(name: str) -> dict[str, Any]:
    """Its recipe call, parts and sizes, what it makes, and the words it knows.

    Raises:
        ValueError: there is no such model, or it cannot be opened.
    """
    from noisereel.pipeline import TextToVideo, locate

    folder = locate(name)
    pipe = TextToVideo.from_pretrained(folder)
    parts = {part: sum(p.numel() for p in module.parameters()) for part, module in pipe.system.parts().items()}
    frames, height, width = pipe.system.last.shape
    return {
        "model": name,
        "folder": str(folder),
        "summary": pipe.summary,
        "makes": {"frames": frames, "height": height, "width": width, "fps": pipe.system.last.fps},
        "recipe": pipe.call["recipe"],
        "arguments": pipe.call["arguments"],
        "parameters": {**parts, "total": sum(parts.values())},
        "megabytes": round(sum(file.stat().st_size for file in folder.rglob("*.safetensors")) / 1e6, 2),
        "about": pipe.about,
        "words": pipe.known_words(),
    }
