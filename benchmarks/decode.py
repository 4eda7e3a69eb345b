"""How much of a plain PyAV loop's speed is left from file to batch, and whether memory grows over many batches.

    python benchmarks/decode.py FOLDER             clips a processor second, ours against a plain loop over the same frames
    python benchmarks/decode.py FOLDER --soak 10000  resident memory along so many batches, in one process

The plain loop is what one would write without this library: seek to the same moment, decode, take every frame that is nearest
to a wanted time, convert to RGB, resize with Pillow. Processor seconds of one process, so that other work does not count.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image

from noisereel.data.collection import Collection
from noisereel.data.decode import Film, Probe
from noisereel.data.media import VIDEO_ENDINGS, File
from noisereel.data.mix import Mix
from noisereel.data.reader import read_clip
from noisereel.data.want import Want


def plain(path: Path, want: Want, start: float) -> torch.Tensor:
    """A clip by the shortest loop that is right."""
    times = [start + i / want.fps for i in range(want.frames)]
    pictures: list[np.ndarray] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        container.seek(int(start / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            while len(pictures) < len(times) and frame.time is not None and frame.time >= times[len(pictures)] - 1e-3:
                image = Image.fromarray(frame.to_ndarray(format="rgb24", threads=1))
                part = min(image.height / want.height, image.width / want.width)
                left, top = (image.width - part * want.width) / 2, (image.height - part * want.height) / 2
                box = (left, top, left + part * want.width, top + part * want.height)
                pictures.append(np.asarray(image.resize((want.width, want.height), Image.Resampling.BICUBIC, box=box)))
            if len(pictures) == len(times):
                break
    return torch.from_numpy(np.stack(pictures)).permute(3, 0, 1, 2).float() / 127.5 - 1


def compared(want: Want, videos: list[tuple[Film, Path, Probe]], rounds: int) -> tuple[list[float], list[float]]:
    """Clips a processor second of both, interleaved: file by file, round by round."""
    size: dict[str, Any] = dict(frames=want.frames, height=want.height, width=want.width, fps=want.fps)
    ours, theirs = [], []
    for number in range(rounds):
        spent = {"ours": 0.0, "plain": 0.0}
        for row, (footage, path, facts) in enumerate(videos):
            start = max(0.0, facts.seconds - want.frames / want.fps - 0.2) * np.random.default_rng((number, row)).random()
            begun = time.process_time()
            plain(path, want, start)
            between = time.process_time()
            torch.stack([read_clip(footage, **size, start=start, facts=facts)])
            spent["plain"] += between - begun
            spent["ours"] += time.process_time() - between
        ours.append(len(videos) / spent["ours"])
        theirs.append(len(videos) / spent["plain"])
    return ours, theirs


def resident() -> float:
    """Megabytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def soak(source: Collection, batches: int) -> None:
    """Prints resident memory along the way."""
    mix = Mix(video=source, batch=1)
    for step in range(batches):
        mix(step)
        if step % max(1, batches // 20) == 0:
            print(f"batch {step}: {resident():.0f} MB", flush=True)
    print(f"batch {batches}: {resident():.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--soak", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    source = Collection(place=options.folder, want=Want(frames=17, height=64, width=64, fps=16.0))
    if options.soak:
        soak(source, options.soak)
        return
    videos = [
        (item.footage, item.footage.media.path, facts)
        for item, facts in source.clips
        if isinstance(item.footage, Film)
        and isinstance(item.footage.media, File)
        and item.footage.media.ending in VIDEO_ENDINGS
    ]
    ours, theirs = compared(source.want, videos, options.rounds)
    ratios = ", ".join(f"{a / b:.2f}" for a, b in zip(ours, theirs, strict=True))
    print(f"{len(videos)} videos, {options.rounds} rounds, clips of 17 frames of 64x64 at 16 fps")
    print(f"ours {np.mean(ours):.1f}, plain {np.mean(theirs):.1f} clips a processor second; ratio by round {ratios}")


if __name__ == "__main__":
    main()
