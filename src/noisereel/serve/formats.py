"""A finished video in the format somebody asks for: written from its frames once, then kept beside them."""

from __future__ import annotations

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


@dataclass(frozen=True)
class Manner:
    """How the files of a job are written."""

    note: dict[str, Any]
    fps: float
    scale: int
    signing: tuple[str, str] | None = None  # webm cannot be signed, and is not


def written(folder: Path, wanted: Wanted, manner: Manner) -> Path:
    """The file, made now if it was not before.

    Raises:
        Refused: the format cannot hold this video.
    """
    path = folder / wanted.name
    if not path.exists():
        try:
            run_apart(convert, folder, wanted, manner, seconds=120)
        except ValueError as error:
            raise Refused(422, f"This video cannot be written as {wanted.format}: {error}.", "unwritable", "format") from error
    return path


def convert(folder: Path, wanted: Wanted, manner: Manner) -> None:
    """In a process of its own: the file of a variant, from the frames."""
    import numpy as np
    import torch

    from noisereel.making.credentials import FORMATS
    from noisereel.making.finish import Finish

    video = torch.from_numpy(np.load(folder / FRAMES)["frames"])[None].float() / 127.5 - 1
    sheet = wanted.variant == "spritesheet"
    path = folder / (f"{wanted.variant}.png" if sheet else wanted.name)  # the json of a sheet is written beside it
    if wanted.variant == "thumbnail":
        middle = video.shape[2] // 2
        video = video[:, :, middle : middle + 1]
    signing = manner.signing if path.suffix in FORMATS else None
    enlarged = 1 if sheet else manner.scale
    Finish(fps=manner.fps, scale=enlarged, sheet=sheet, transparent=False, signing=signing).write(video, path, manner.note)
