"""A finished video in the format somebody asks for: written from its frames once, then kept beside them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisereel.serve.apart import run_apart
from noisereel.serve.errors import Refused, invalid
from noisereel.serve.results import FRAMES

TYPES = {
    "mp4": "video/mp4",
    "webm": "video/webm",
    "gif": "image/gif",
    "webp": "image/webp",
    "apng": "image/apng",
    "png": "image/png",
    "json": "application/json",
}
VARIANTS = {"video": "mp4", "thumbnail": "webp", "spritesheet": "png"}  # and what each is written as


@dataclass(frozen=True)
class Wanted:
    """A variant in a format."""

    variant: str
    format: str

    @classmethod
    def of(cls, variant: str, format: str | None) -> Wanted:
        """Checked.

        Raises:
            Refused: one is unknown, or they do not go together.
        """
        if variant not in VARIANTS:
            raise invalid(f"variant takes {', '.join(VARIANTS)}.", "variant")
        legal = ["webp", "png"] if variant == "thumbnail" else ["png", "json"] if variant == "spritesheet" else list(TYPES)[:-1]
        if (format or VARIANTS[variant]) not in legal:
            raise invalid(f"format takes {', '.join(legal)} for the variant {variant}.", "format")
        return cls(variant, format or VARIANTS[variant])

    @property
    def name(self) -> str:
        return f"{self.variant}.{self.format}"


def written(folder: Path, wanted: Wanted, result: dict[str, Any], fps: float, scale: int) -> Path:
    """The file, made now if it was not before.

    Raises:
        Refused: the format cannot hold this video.
    """
    path = folder / wanted.name
    if not path.exists():
        try:
            run_apart(convert, str(folder), wanted.variant, wanted.format, json.dumps(result["note"]), fps, scale, seconds=120)
        except ValueError as error:
            raise Refused(422, f"This video cannot be written as {wanted.format}: {error}.", "unwritable", "format") from error
    return path


def convert(folder: str, variant: str, format: str, note: str, fps: float, scale: int) -> None:
    """In a process of its own: the file of a variant, from the frames."""
    import numpy as np
    import torch

    from noisereel.data.writer import write

    frames = torch.from_numpy(np.load(Path(folder) / FRAMES)["frames"])
    video = frames.float() / 127.5 - 1
    if variant == "thumbnail":
        middle = video.shape[1] // 2
        write(
            video[:, middle : middle + 1], Path(folder) / f"{variant}.{format}", fps=fps, scale=scale, metadata=json.loads(note)
        )
        return
    sheet = variant == "spritesheet"
    ending = "png" if sheet else format
    write(
        video,
        Path(folder) / f"{variant}.{ending}",
        fps=fps,
        scale=1 if sheet else scale,
        sheet=sheet,
        metadata=json.loads(note),
    )
