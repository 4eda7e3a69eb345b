"""Where the files of jobs lie: a folder for each, named after its id."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FRAMES = "frames.npz"  # the frames as the model made them, of which any format is written when it is asked for
INPUT = "input.apng"  # what a job begins with: a clip, or a picture as a clip of one frame
_ID = re.compile(r"video_[0-9a-f]{32}")


@dataclass(frozen=True)
class Folders:
    """A folder for each job below one root."""

    root: Path

    def of(self, id: str) -> Path:
        """The job's own folder, which may not be there yet."""
        assert is_id(id)
        return self.root / id

    def remove(self, id: str) -> None:
        shutil.rmtree(self.of(id), ignore_errors=True)

    def size(self, id: str) -> int:
        """Bytes."""
        folder = self.of(id)
        return sum(file.stat().st_size for file in folder.iterdir()) if folder.is_dir() else 0

    def sweep(self, kept: set[str]) -> None:
        """Remove the folders of jobs that nobody knows, and files that were being written when the server was killed."""
        for folder in self.root.iterdir():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)
        for part in self.root.glob("*/.*.part"):
            part.unlink(missing_ok=True)


def is_id(text: str) -> bool:
    """Whether it is shaped like a job's id, and so safe as a name of a folder."""
    return _ID.fullmatch(text) is not None


def as_bytes(video: Any) -> Any:
    """Pixels in [-1, 1] as bytes: an array of the same axes."""
    import torch

    return ((video.float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


def save_frames(folder: Path, frames: Any) -> dict[str, int]:
    """Keep the frames (c t h w), of which any format is written; returns how many and how large they are."""
    import numpy as np

    from noisereel.data.writer import whole

    with whole(folder / FRAMES) as (temporary,), temporary.open("wb") as file:
        np.savez_compressed(file, frames=frames)
    return {"frames": frames.shape[1], "height": frames.shape[2], "width": frames.shape[3]}
