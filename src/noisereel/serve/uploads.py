"""Pictures and clips that people send: recognised by their first bytes, decoded apart, kept only as pixels."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from noisereel.serve.apart import run_apart
from noisereel.serve.errors import Refused, invalid
from noisereel.serve.results import INPUT, Folders

MOST_FRAMES = 600
MOST_PIXELS = 32 * 2**20  # of a picture, or of one frame

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


@dataclass(frozen=True)
class Shape:
    """What an upload is decoded to: the size of the job's video, and one frame or all at its rate."""

    height: int
    width: int
    fps: float
    one_frame: bool


def accept(upload: bytes, inputs: Folders, id: str, shape: Shape) -> tuple[int, str]:
    """Decode an upload into the folder of job ``id``; returns its number of frames, and its SHA-256.

    Raises:
        Refused: not a picture or clip that can be read within the limits.
    """
    found = kind_of(upload[:32])
    if found is None:
        raise Refused(415, "The file is no PNG, JPEG, WebP, GIF, MP4 or WebM.", "unsupported_file", "input_reference")
    folder = inputs.of(id)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.NamedTemporaryFile(dir=folder, suffix=found[1]) as file:
            file.write(upload)
            file.flush()
            frames = run_apart(decode, file.name, str(folder / INPUT), shape)
    except ValueError as error:
        inputs.remove(id)
        reason = str(error).replace(str(folder), "").replace(str(inputs.root), "")
        reason = re.sub(r"\S*/\S*", "the file", reason)  # no path is told to anybody
        raise invalid(f"The file cannot be read: {reason}", "input_reference", "unreadable_file") from error
    return frames, hashlib.sha256(upload).hexdigest()


def decode(path: str, output: str, shape: Shape) -> int:
    """In a process of its own: read the file and write its pixels as an APNG; returns the number of frames.

    Raises:
        ValueError: unreadable, or too large.
    """
    import warnings

    from PIL import Image

    from noisereel.data.reader import probe, read_clip
    from noisereel.data.writer import write

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    facts = probe(path)
    if facts.height * facts.width > MOST_PIXELS:
        raise ValueError(f"its frames have {facts.width}x{facts.height} pixels, too many")
    if not shape.one_frame and facts.seconds * shape.fps > MOST_FRAMES:
        raise ValueError(f"it lasts {facts.seconds:.0f} seconds, and {MOST_FRAMES} frames are read at most")
    if shape.one_frame:
        clip = read_clip(path, frames=1, height=shape.height, width=shape.width)
    else:
        clip = read_clip(path, height=shape.height, width=shape.width, fps=shape.fps)
    write(clip, Path(output), fps=shape.fps)
    return clip.shape[1]
