"""What a video is believed to become, shown while it is sampled to those who look."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from noisereel.serve.results import as_bytes

if TYPE_CHECKING:
    from noisereel.system import Moment
    from noisereel.types import Video

SHARE = 0.05  # of the time of sampling that previews may take


class Previews:
    """Small moving pictures of what is believed so far, as long as they cost little beside the sampling."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.spent = 0.0
        self.first = True
        self.frames = 1  # of the latents that are decoded: as many as the time allows

    def of(self, system: Any, moment: Moment, ids: Sequence[str], watched: frozenset[str]) -> list[tuple[str, bytes]]:
        """Of those that are watched, unless previews have taken their share of the time."""
        wanted = [(number, id) for number, id in enumerate(ids) if id in watched]
        now = time.perf_counter()
        if not wanted or moment.video is not None or self.spent > SHARE * (now - self.began):
            return []
        stage, clean = system.stages[moment.stage], moment.step.clean
        most = clean.shape[2] - stage.spare
        frames = min(self.frames, most)
        made = []
        for number, id in wanted:
            try:
                made.append((id, picture(stage.decode(clean[number : number + 1, :, : stage.spare + frames]))))
            except ValueError:  # not finite: the end will tell
                continue
        took = time.perf_counter() - now
        if not self.first:  # which had to load the encoder, and may have come before its page was ready to show it
            self.spent += took
        self.first = False
        if took * most / frames < SHARE / 4 * (now - self.began) * moment.step.total / (moment.step.index + 1):
            self.frames = most  # four whole previews fit
        return made


def picture(video: Video, frames: int = 8, side: int = 128) -> bytes:
    """A video as a small animated WebP."""
    import torch
    from PIL import Image

    count = video.shape[2]
    chosen = video[0, :, torch.linspace(0, count - 1, min(frames, count)).round().long()]
    first, *rest = [Image.fromarray(frame) for frame in as_bytes(chosen).transpose(1, 2, 3, 0)]
    for image in (first, *rest):
        image.thumbnail((side, side))
    stream = io.BytesIO()
    first.save(stream, "WEBP", save_all=True, append_images=rest, duration=125, loop=0, quality=60, method=0)
    return stream.getvalue()
