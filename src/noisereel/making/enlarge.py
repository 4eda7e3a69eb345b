"""From a clip to a larger one, or one of more frames: what ``noisereel upscale`` and the server share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from noisereel import __version__
from noisereel.data.reader import stream_clip
from noisereel.diffusion.samplers import Sampler
from noisereel.making.memory import check_window
from noisereel.pipeline import TextToVideo
from noisereel.stage import Stage
from noisereel.upscale import chosen, sampling_steps, upscale


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What somebody wants of a clip; the model's own where not given."""

    space: int = 1  # so many times as high and as wide
    time: int = 1  # so many times as many frames
    prompt: str | None = None
    seed: int = 0
    steps: int | None = None  # of sampling, of each stage
    tile: int | None = None  # pixels to a side that a network sees at once
    window: int | None = None  # frames that are made at once


@dataclass(frozen=True, kw_only=True, eq=False)
class Enlargement:
    """A way to make clips larger."""

    stages: Sequence[Stage]
    wish: Wish

    def pieces(self, clip: Path, frames: int, report: Callable[[float], None]) -> Iterator[Float[Tensor, "3 _ _ _"]]:
        """The clip, of so many frames, in finished pieces; ``report`` is told the share that is done after every step.

        What ``report`` raises ends it there.
        """
        wish, done = self.wish, 0
        total = sampling_steps(frames, self.stages, window=wish.window)

        def counted() -> None:
            nonlocal done
            done += 1
            report(min(1.0, done / total))

        stages = [replace(stage, sampler=told(stage.sampler, counted)) for stage in self.stages]
        yield from upscale(stream_clip(clip), stages, prompt=wish.prompt, seed=wish.seed, tile=wish.tile, window=wish.window)

    def note(self, model: str, clip: str) -> dict[str, Any]:
        """What is kept inside the file, so that it can be made again; ``clip`` names what it was made of."""
        wish = self.wish
        given = {"space": wish.space, "time": wish.time, "prompt": wish.prompt, "seed": wish.seed, "tile": wish.tile}
        known = {"upscaled": clip, "model": model, **given, "window": wish.window}
        kept = {name: value for name, value in known.items() if value is not None}
        return {**kept, "steps": self.stages[0].steps, "noisereel": __version__}


def enlargement(pipe: TextToVideo, wish: Wish, size: tuple[int, int]) -> Enlargement:
    """The way to what is wished for, for clips that it makes ``size`` (height, width).

    Raises:
        ValueError: no stages that do it, a prompt that the model cannot read, or too little memory.
    """
    stages = chosen(pipe.tuned(wish.steps).stages, time=wish.time, space=wish.space)
    if wish.prompt is not None:
        pipe.check_lengths([wish.prompt])
    check_window(wish.window or stages[-1].shape[0], size, stages[-1].device)
    return Enlargement(stages=stages, wish=wish)


def told(sampler: Sampler, after: Callable[[], None]) -> Sampler:
    """The sampler, which calls ``after`` when it has taken a step."""

    def sample(*given: Any) -> Iterator[Any]:
        for step in sampler(*given):
            after()
            yield step

    return sample
