"""Damaged videos and images: small whole ones in ten formats, and two hundred ways in which they were broken."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
from PIL import Image

FRAMES, HEIGHT, WIDTH = 12, 48, 64
CODECS = {
    "h264.mp4": ("libx264", "yuv420p"),
    "ten_bits.mov": ("libx264", "yuv420p10le"),
    "h264.mkv": ("libx264", "yuv444p"),
    "vp9.webm": ("libvpx-vp9", "yuv420p"),
    "alpha.webm": ("libvpx-vp9", "yuva420p"),
    "mpeg4.avi": ("mpeg4", "yuv420p"),
    "mpeg1.mpg": ("mpeg1video", "yuv420p"),
}
PICTURES = ("animated.gif", "animated.webp", "animated.apng")


def pictures() -> list[np.ndarray]:
    """A textured ground on which a square moves."""
    ground = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    frames = [ground.copy() for _ in range(FRAMES)]
    for number, frame in enumerate(frames):
        frame[8:24, 4 * number : 4 * number + 12] = (250, 20 * number, 0)
    return frames


def whole_files(folder: Path) -> list[Path]:
    """One undamaged file of each format."""
    for name, (codec, pixels) in CODECS.items():
        with av.open(str(folder / name), "w", options={"movflags": "faststart"} if name.endswith("mp4") else {}) as out:
            stream = out.add_stream(codec, rate=24)
            stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, pixels
            stream.codec_context.gop_size = 6
            for picture in pictures():
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            out.mux(stream.encode(None))
    first, *rest = [Image.fromarray(picture) for picture in pictures()]
    for name in PICTURES:
        kind = "PNG" if name.endswith("apng") else None
        first.save(folder / name, kind, save_all=True, append_images=rest, duration=40)
    return [folder / name for name in (*CODECS, *PICTURES)]


def truncated(data: bytes, dice: random.Random) -> bytes:
    return data[: int(len(data) * dice.uniform(0.02, 0.98))]


def flipped(data: bytes, dice: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.choice((1, 8, 64))):
        changed[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def zeroed(data: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(len(data))
    return data[:start] + bytes(min(len(data) - start, 400)) + data[start + 400 :]


def beheaded(data: bytes, dice: random.Random) -> bytes:
    return data[dice.randrange(1, 200) :]


def huge_header(data: bytes, dice: random.Random) -> bytes:
    start = dice.randrange(0, 120)
    return data[:start] + b"\xff" * dice.choice((4, 8, 16)) + data[start:][8:]


def empty(data: bytes, dice: random.Random) -> bytes:
    return bytes(dice.choice((0, 0, 1, len(data))))


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    truncated, truncated, truncated, flipped, flipped, flipped, zeroed, beheaded, huge_header, empty,
)  # fmt: skip


def mutants(folder: Path, number: int, seed: int = 0) -> list[Path]:
    """So many damaged files, in turn of each format; every ninth keeps its bytes and gets another format's name."""
    sources = whole_files(folder)
    made = []
    for index in range(number):
        dice = random.Random(f"{seed} {index}")
        source = sources[index % len(sources)]
        if index % 9 == 8:
            data, name = source.read_bytes(), dice.choice([path.name for path in sources if path.suffix != source.suffix])
            kind = "renamed"
        else:
            mutation = dice.choice(MUTATIONS)
            data, name, kind = mutation(source.read_bytes(), dice), source.name, mutation.__name__
        path = folder / f"{index:03d}-{kind}-{name}"
        path.write_bytes(data)
        made.append(path)
    return made
