"""Pictures and clips that people send: recognised by their first bytes, decoded apart, kept only as pixels."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from noisereel.serve.apart import run_apart
from noisereel.serve.errors import Refused, invalid
from noisereel.serve.results import INPUT, Folders

MOST_FRAMES = 600
MOST_PIXELS = 32 * 2**20  # of a picture, or of one frame
EVEN = 10.0  # frames a second that an APNG, whose clock counts milliseconds, shows equally long: none is read twice

_DATA_URL = re.compile(r"data:(?:image|video)/[\w.+-]{1,40};base64,", re.ASCII)


def kind_of(start: bytes) -> tuple[str, str] | None:
    """``image`` or ``video``, and the ending its format has, by the first bytes; None for what we do not read."""
    if start.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image", ".png"
    if start.startswith(b"\xff\xd8\xff"):
        return "image", ".jpg"
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "image", ".webp"
    if start.startswith((b"GIF87a", b"GIF89a")):
        return "image", ".gif"
    if start[4:8] == b"ftyp":
        return "video", ".mp4"
    if start.startswith(b"\x1a\x45\xdf\xa3"):
        return "video", ".webm"
    return None


def from_data_url(url: str) -> bytes:
    """The bytes of ``data:image/png;base64,...``; other addresses are not fetched.

    Raises:
        Refused: another kind of address, or broken base64.
    """
    head = _DATA_URL.match(url)
    if head is None:
        raise invalid("image_url must be a data URL, data:image/png;base64,...; nothing is fetched.", "input_reference")
    try:
        return base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise invalid("The data URL's base64 is broken.", "input_reference") from error


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What an upload is decoded to; its own size and rate where they are not given."""

    height: int | None = None
    width: int | None = None
    fps: float | None = None
    one_frame: bool = False
    pixels: int | None = None  # of all frames together, at most
    frame_pixels: int = MOST_PIXELS  # of one, at most


@dataclass(frozen=True, kw_only=True)
class Read:
    """What was decoded, and the SHA-256 of what it was decoded from."""

    frames: int
    height: int
    width: int
    fps: float
    sha256: str = ""


@dataclass(frozen=True)
class Made:
    """The lossless frames of a video that was made here, and its rate."""

    path: Path
    fps: float


def accept(upload: bytes | Made, inputs: Folders, id: str, shape: Shape) -> Read:
    """Decode an upload, or the frames of a video made here, into the folder of job ``id``.

    Raises:
        Refused: not a picture or clip that can be read within the limits.
    """
    folder = inputs.of(id)
    try:
        if isinstance(upload, Made):
            folder.mkdir(parents=True, exist_ok=True)
            found = run_apart(take_over, upload, str(folder / INPUT), shape)
            return replace(found, sha256=hashlib.sha256(upload.path.read_bytes()).hexdigest())
        ending = kind_of(upload[:32])
        if ending is None:
            raise Refused(415, "The file is no PNG, JPEG, WebP, GIF, MP4 or WebM.", "unsupported_file", "input_reference")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=ending[1]) as file:
            file.write(upload)
            file.flush()
            found = run_apart(decode, file.name, str(folder / INPUT), shape)
        return replace(found, sha256=hashlib.sha256(upload).hexdigest())
    except ValueError as error:
        inputs.remove(id)
        reason = str(error).replace(str(folder), "").replace(str(inputs.root), "")
        reason = re.sub(r"\S*/\S*", "the file", reason)  # no path is told to anybody
        raise invalid(f"The file cannot be read: {reason}", "input_reference", "unreadable_file") from error


def decode(path: str, output: str, shape: Shape) -> Read:
    """In a process of its own: read the file and write its pixels as an APNG.

    Raises:
        ValueError: unreadable, or too large.
    """
    import warnings

    from PIL import Image

    from noisereel.data.reader import probe, read_clip

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    facts = probe(path)
    _check_size(facts.frames, facts.height, facts.width, shape)
    rate = shape.fps or facts.fps
    if not shape.one_frame and facts.seconds * rate > MOST_FRAMES:
        raise ValueError(f"it lasts {facts.seconds:.0f} seconds, and {MOST_FRAMES} frames are read at most")
    if shape.fps is None:
        clip = _every_frame(path, shape)
    elif shape.one_frame:
        clip = read_clip(path, frames=1, height=shape.height, width=shape.width)
    else:
        clip = read_clip(path, height=shape.height, width=shape.width, fps=shape.fps)
    return _written(clip, output, rate, shape)


def take_over(made: Made, output: str, shape: Shape) -> Read:
    """In a process of its own: the frames of a finished video, as many as they are, as an APNG.

    Raises:
        ValueError: too large.
    """
    import numpy as np
    from einops import rearrange

    from noisereel.data.reader import resized, tensor

    frames = rearrange(np.load(made.path)["frames"], "c t h w -> t h w c")
    count, height, width, _ = frames.shape
    _check_size(count, height, width, shape)
    size = shape.height or height, shape.width or width
    clip = tensor([resized(frame, *size) for frame in frames[: 1 if shape.one_frame else None]])
    return _written(clip, output, made.fps, shape)


def _check_size(frames: int, height: int, width: int, shape: Shape) -> None:
    if height * width > shape.frame_pixels:
        raise ValueError(f"its frames have {width}x{height} pixels, too many: {shape.frame_pixels} are taken")
    if shape.pixels is not None and frames * height * width > shape.pixels:
        said = f"{frames} frame{'s' * (frames != 1)} of {width}x{height}"
        raise ValueError(f"it has {said}, too many: {shape.pixels} pixels are taken, all frames together")


def _every_frame(path: str, shape: Shape) -> Any:
    """As ``noisereel upscale`` reads them; a file may hold more than it says."""
    import torch

    from noisereel.data.reader import stream_clip

    frames = []
    for frame in stream_clip(path):
        frames.append(frame)
        _check_size(len(frames), frame.shape[1], frame.shape[2], shape)
    return torch.stack(frames, dim=1)


def _written(clip: Any, output: str, fps: float, shape: Shape) -> Read:
    from noisereel.data.writer import write

    write(clip, Path(output), fps=shape.fps or EVEN)
    _, frames, height, width = clip.shape
    return Read(frames=frames, height=height, width=width, fps=fps)
