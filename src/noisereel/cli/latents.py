"""What was sampled, kept in a file when it cannot be decoded: hours of sampling are not lost with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from noisereel.data.writer import whole
from noisereel.making.finish import Finish
from noisereel.system import DecodingError
from noisereel.types import Latent

ENDING = ".latents.safetensors"
_ABOUT = "noisereel"  # the key of everything but the numbers


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """The latents of one video, and what is needed to make its file of them."""

    latent: Latent  # of one sample
    stage: str  # whose codec decodes them
    output: Path
    finish: Finish
    note: Mapping[str, Any]  # goes into the file

    def save(self) -> Path:
        """Write them beside the output."""
        about = {"stage": self.stage, "output": str(self.output), "finish": asdict(self.finish), "note": dict(self.note)}
        path = self.output.with_name(self.output.stem + ENDING)
        with whole(path) as (temporary,):
            save_file({"latents": self.latent.contiguous().cpu()}, temporary, metadata={_ABOUT: json.dumps(about)})
        return path

    @classmethod
    def load(cls, path: Path) -> Kept:
        """What ``save`` wrote.

        Raises:
            ValueError: not such a file.
        """
        if not path.is_file():
            raise ValueError(f"there is no file {path}")
        try:
            with safe_open(path, "pt") as file:
                about = json.loads(file.metadata()[_ABOUT])
                return cls(
                    latent=file.get_tensor("latents"),
                    stage=about["stage"],
                    output=Path(about["output"]),
                    finish=Finish(**about["finish"]),
                    note=about["note"],
                )
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no latents that noisereel generate kept: name a file *{ENDING}") from error


@contextmanager
def keeping(finish: Finish, paths: Sequence[Path], notes: Sequence[Mapping[str, Any]]) -> Iterator[None]:
    """Keep what the block sampled for these paths if it cannot be decoded.

    Raises:
        ValueError: it could not; says why, and how to decode it later.
    """
    try:
        yield
    except DecodingError as failure:
        problem = f"the video is sampled but could not be decoded ({reason(failure)})"
        try:
            files = [
                Kept(latent=latent, stage=failure.stage, output=path, finish=finish, note=note).save()
                for latent, path, note in zip(failure.latent.split(1), paths, notes, strict=True)
            ]
        except OSError as error:
            raise ValueError(f"{problem}, and its latents could not be kept: {error.strerror}") from failure
        more = f" and {len(files) - 1} more files beside it" if len(files) > 1 else ""
        raise ValueError(f"{problem}; its latents are kept: noisereel decode {files[0]}{more}") from failure


def reason(failure: DecodingError) -> str:
    """Why decoding failed, briefly."""
    cause = failure.__cause__
    said = " ".join(str(cause).split())
    return "not enough memory" if "memory" in said.lower() else f"{type(cause).__name__}: {said[:120]}"
