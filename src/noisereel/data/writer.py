"""Videos to files, the format chosen by the ending, written whole or not at all; and the notes kept inside them."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Float, UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from noisereel.data.encode import FILMS, film
from noisereel.data.media import IMAGE_ENDINGS
from noisereel.data.sheets import Frames, atlas, tiled
from noisereel.types import Video

_DESCRIPTION = 0x010E  # the EXIF tag ImageDescription
_CLEAR = 255  # the palette entry of a gif that is transparent
_OPAQUE = tuple(FILMS)
_ANY = 2**31 - 1
_LARGEST = {".mp4": 16384, ".webm": 65535, ".gif": 65535, ".webp": 16383}  # pixels to a side that the formats hold


def write(
    video: Float[Tensor, "c t h w"],
    path: str | Path,
    *,
    fps: float,
    scale: int = 1,
    sheet: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> Path:
    """Write a video in [-1, 1] as the path's ending says, and return the path; a fourth channel is alpha.

    mp4 is H.264 (odd sizes gain an edge row or column, which its 4:2:0 needs to play everywhere), webm is VP9; webp and
    apng are lossless; gif has 256 colours, and its pixels are transparent or not; png is a contact sheet, or with ``sheet`` a
    sprite sheet of equal cells with a json of its frames beside it. ``scale`` repeats each pixel; ``metadata`` (JSON values)
    is kept in the file, see ``read_metadata``.
    """
    path = checked(path, sheet=sheet, fps=fps, transparent=len(video) == 4)
    if scale < 1:
        raise ValueError(f"scale {scale}: it must be positive")
    frames = _to_uint8(video, scale)
    note = json.dumps(dict(metadata or {}))
    if not sheet:
        with whole(path) as (temporary,):
            _ENCODERS[path.suffix.lower()](frames, temporary, fps, note)
        return path
    with whole(path, path.with_suffix(".json")) as (temporary, beside):
        _save_png(tiled(frames, gap=0), temporary, note)
        beside.write_text(json.dumps(atlas(frames, _durations(len(frames), fps, 0.001), path.name), indent=1))
    return path


@contextmanager
def written(
    path: str | Path, *, fps: float, size: tuple[int, int], metadata: Mapping[str, Any] | None = None, sound: Path | None = None
) -> Iterator[Callable[[Float[Tensor, "c _ h w"]], None]]:
    """Write what the yielded function is given piece by piece; the file is whole at the end of the block, or there is none.

    mp4 and webm are written as the pieces come, with the ``sound`` of another file as far as they hold it; of the other
    endings, which are those of ``write``, all pieces are kept in memory, as bytes.
    """
    path, note = checked(path, fps=fps, size=size), json.dumps(dict(metadata or {}))
    ending = path.suffix.lower()
    with whole(path) as (temporary,):
        if ending in FILMS:
            with film(temporary, ending, fps=fps, size=size, note=note, sound=sound) as add:
                yield lambda piece: add(_to_uint8(piece, 1))
        else:
            pieces: list[Frames] = []
            yield lambda piece: pieces.append(_to_uint8(piece, 1))
            _ENCODERS[ending](np.concatenate(pieces), temporary, fps, note)


def checked(
    path: str | Path,
    *,
    sheet: bool = False,
    fps: float | None = None,
    transparent: bool = False,
    size: tuple[int, int] | None = None,
) -> Path:
    """The path, if ``write`` could write a video of this kind there: worth asking before the work that makes it.

    ``size`` is the height and width of a frame as written. Errors: ValueError says what would do.
    """
    path = Path(path)
    if fps is not None and not fps > 0:
        raise ValueError(f"fps {fps}: it must be positive")
    if fps is not None and fps > 50 and path.suffix.lower() == ".gif":
        raise ValueError(f"a gif plays at most 50 frames a second, not {fps:g}: choose another ending, or fewer")
    legal = [".png"] if sheet else [ending for ending in _ENCODERS if not (transparent and ending in _OPAQUE)]
    if path.suffix.lower() not in legal:
        what = f"a {'transparent ' if transparent else ''}{'sprite sheet' if sheet else 'video'}"
        raise ValueError(f"cannot write {what} to {path.name!r}: end the name in {', '.join(legal)}")
    most = _LARGEST.get(path.suffix.lower(), _ANY)
    if size is not None and max(size) > most:
        raise ValueError(
            f"a {path.suffix[1:].lower()} has at most {most} pixels to a side, not {max(size)}: lower its size or scale"
        )
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file")
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent} to write {path.name} in: make it first")
    try:
        with tempfile.TemporaryFile(dir=path.parent):  # permissions do not tell everything, such as a disk that is read-only
            return path
    except OSError as error:
        raise ValueError(f"cannot write in {path.parent} ({error.strerror}): choose another folder") from error


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What ``write`` was given as metadata; empty for a file that holds none."""
    path = Path(path)
    if path.suffix.lower() not in IMAGE_ENDINGS:
        import av

        with av.open(str(path)) as container:
            note = {key.lower(): value for key, value in container.metadata.items()}.get("comment", "")
    else:
        with Image.open(path) as image:
            note = image.getexif().get(_DESCRIPTION) or image.info.get("comment") or image.info.get("Comment") or ""
    try:
        found = json.loads(note)
    except ValueError:  # someone else's comment
        return {}
    return found if isinstance(found, dict) else {}


@contextmanager
def whole(*paths: Path) -> Iterator[list[Path]]:
    """Empty files beside the paths that take their places when the block ends without an error."""
    temporaries: list[Path] = []
    try:
        for path in paths:
            temporaries.append(_beside(path))
        yield temporaries
        for temporary, path in zip(temporaries, paths, strict=True):
            os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, f"could not write {paths[0]}: {error.strerror or error}") from error
    finally:
        for temporary in temporaries:
            temporary.unlink(missing_ok=True)


def grid(videos: Video, *, columns: int | None = None, gap: int = 2) -> Float[Tensor, "c t rows_h columns_w"]:
    """Videos tiled into one, row by row, with ``gap`` white pixels between and blank cells at the end."""
    columns = columns or math.ceil(math.sqrt(len(videos)))
    rows = math.ceil(len(videos) / columns)
    blank = videos.new_ones(rows * columns - len(videos), *videos.shape[1:])
    padded = torch.nn.functional.pad(torch.cat([videos, blank]), (0, gap, 0, gap), value=1.0)
    tiled = rearrange(padded, "(rows columns) c t h w -> c t (rows h) (columns w)", rows=rows)
    return tiled[..., : tiled.shape[-2] - gap, : tiled.shape[-1] - gap]


def export_to_video(frames: Sequence[Any] | np.ndarray | Tensor, path: str | Path, fps: float = 10.0) -> str:
    """Write frames as diffusers gives them, and return the path.

    A list of PIL images; a list or array of ``h w c``, in [0, 1] or uint8; or a tensor ``t c h w`` in [0, 1].
    """
    if isinstance(frames, Tensor):
        stacked = rearrange(frames.float().cpu(), "t c h w -> c t h w")
    else:
        arrays = np.stack([np.asarray(frame.convert("RGB") if isinstance(frame, Image.Image) else frame) for frame in frames])
        stacked = rearrange(torch.from_numpy(arrays).float(), "t h w c -> c t h w") / (255 if arrays.dtype == np.uint8 else 1)
    return str(write(stacked * 2 - 1, path, fps=fps))


def _to_uint8(video: Float[Tensor, "c t h w"], scale: int) -> UInt8[np.ndarray, "t scaled_h scaled_w c"]:
    if not torch.isfinite(video).all():
        raise ValueError("the video holds values that are not finite: what made it has failed; it is not written")
    bytes_ = ((video.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return repeat(bytes_, "c t h w -> t (h p) (w q) c", p=scale, q=scale).numpy()


def _beside(path: Path) -> Path:
    """An empty temporary file in the same folder, so that renaming it is atomic."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=".part")
    os.close(handle)
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(name, 0o666 & ~umask)  # mkstemp's files are private
    return Path(name)


def _durations(count: int, fps: float, unit: float) -> list[int]:
    """How many units of time each frame lasts; rounding never adds up to drift."""
    edges = [round(i / fps / unit) for i in range(count + 1)]
    return [after - before for before, after in pairwise(edges)]


def _film(ending: str) -> Callable[[Frames, Path, float, str], None]:
    def encode(frames: Frames, path: Path, fps: float, note: str) -> None:
        with film(path, ending, fps=fps, size=frames.shape[1:3], note=note) as add:
            add(frames)

    return encode


def _gif(frames: Frames, path: Path, fps: float, note: str) -> None:
    first, *rest = map(_indexed, frames)
    times = [10 * hundredths for hundredths in _durations(len(frames), fps, 0.01)]
    more: dict[str, Any] = {"transparency": _CLEAR, "disposal": 2} if frames.shape[-1] == 4 else {"disposal": 1}
    first.save(path, "GIF", save_all=True, append_images=rest, duration=times, loop=0, comment=note.encode(), **more)


def _indexed(frame: UInt8[np.ndarray, "h w c"]) -> Image.Image:
    """The frame in 256 colours; with alpha in 255 and ``_CLEAR``, which is what less than half a pixel becomes."""
    if frame.shape[-1] == 3:
        return Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE)
    clear = frame[..., 3] < 128
    colours = Image.fromarray(np.where(clear[..., None], 0, frame[..., :3])).quantize(_CLEAR, dither=Image.Dither.NONE)
    palette = colours.getpalette() or []
    picture = Image.fromarray(np.where(clear, _CLEAR, np.asarray(colours)).astype(np.uint8), "P")
    picture.putpalette(palette + [0] * (768 - len(palette)))
    return picture


def _webp(frames: Frames, path: Path, fps: float, note: str) -> None:
    first, *rest = map(Image.fromarray, frames)
    exif = Image.Exif()
    exif[_DESCRIPTION] = note
    times = _durations(len(frames), fps, 0.001)
    first.save(path, "WEBP", save_all=True, append_images=rest, duration=times, loop=0, lossless=True, exif=exif.tobytes())


def _apng(frames: Frames, path: Path, fps: float, note: str) -> None:
    first, *rest = map(Image.fromarray, frames)
    times = _durations(len(frames), fps, 0.001)
    # Pillow makes equal frames in a row one long one, unless they are laid on differently: the same where nothing is clear.
    laid = {"blend": [number % 2 for number in range(len(frames))]} if frames.shape[-1] == 3 else {}
    first.save(path, "PNG", save_all=True, append_images=rest, duration=times, loop=0, pnginfo=_png_note(note), **laid)


def _contact_sheet(frames: Frames, path: Path, fps: float, note: str) -> None:
    _save_png(tiled(frames, gap=2), path, note)


def _save_png(image: UInt8[np.ndarray, "h w c"], path: Path, note: str) -> None:
    Image.fromarray(image).save(path, "PNG", pnginfo=_png_note(note))


def _png_note(note: str) -> PngInfo:
    info = PngInfo()
    info.add_text("Comment", note)
    return info


_ENCODERS: dict[str, Callable[[Frames, Path, float, str], None]] = {
    ".mp4": _film(".mp4"),
    ".webm": _film(".webm"),
    ".gif": _gif,
    ".webp": _webp,
    ".apng": _apng,
    ".png": _contact_sheet,
}
