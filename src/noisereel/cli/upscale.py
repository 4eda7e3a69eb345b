"""``noisereel upscale``: a clip in, a larger one with more frames out."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisereel import __version__
from noisereel.cli.clock import Clock
from noisereel.cli.parsing import Parser
from noisereel.cli.progress import progress
from noisereel.making.device import pick

if TYPE_CHECKING:
    from noisereel.data.decode import Probe

LEAST = {"space": 1, "time": 1, "steps": 1, "tile": 1, "window": 1, "seed": 0}  # what the options take


def parse(arguments: Sequence[str]) -> Namespace | None:
    """The verb's options."""
    parser = Parser("upscale", "Make a clip larger, or give it more frames, or both.")
    add = parser.add_argument
    add("clip", type=Path, metavar="CLIP", help="a video or image file")
    add("-o", "--output", type=Path, metavar="FILE", help="its ending says the format: mp4 (out.mp4 if not given), webm, gif, webp, apng, or png for one frame")  # fmt: skip # noqa: E501
    add("--space", type=int, default=1, metavar="N", help="so many times as high and as wide")
    add("--time", type=int, default=1, metavar="N", help="so many times as many frames, in the same time")
    add("--model", default="upscaler", help="a shipped model, a folder, or a name on the hub, with stages that enlarge")
    add("--prompt", metavar="PROMPT", help="what the clip shows, for a model that learned from captions")
    add("--steps", type=int, metavar="N", help="sampling steps of each stage; the model's own if not given")
    add("--seed", type=int, default=0, help="of the noise that detail is made of")
    add("--tile", type=int, metavar="PIXELS", help="side of what a network sees at once; as it was trained if not given")
    add("--window", type=int, metavar="FRAMES", help="frames made at once: fewer take less memory; as trained if not given")
    add("--device", metavar="NAME", help="cpu, cuda, ...; the best there is if not given")
    return parser.parse(arguments)


def run(options: Namespace) -> dict[str, Any]:
    """Enlarge the clip, and say where it is."""
    check(options)
    clock = Clock()
    with clock.time("load"):
        from noisereel.data.encode import losses, sounds
        from noisereel.data.reader import probe, stream_clip
        from noisereel.data.writer import checked, written
        from noisereel.making.memory import check_window, enough_memory
        from noisereel.pipeline import TextToVideo
        from noisereel.upscale import chosen, upscale

        facts = probe(options.clip)
        path = output(options, facts)
        rate, size = facts.fps * options.time, (facts.height * options.space, facts.width * options.space)
        checked(path, fps=rate, size=size)
        pipe = TextToVideo.from_pretrained(options.model).to(pick(options.device))
        stages = chosen(pipe.tuned(options.steps).stages, time=options.time, space=options.space)
        if options.prompt is not None:
            pipe.check_lengths([options.prompt])
        check_window(options.window or stages[-1].shape[0], size, stages[-1].device)
    said = losses(options.clip, path.suffix.lower())
    made = 0
    note = notes(options, stages[0].steps)
    kept, _ = sounds(options.clip, path.suffix.lower())
    tuning = {name: getattr(options, name) for name in ("prompt", "seed", "tile", "window")}
    pieces = upscale(stream_clip(options.clip), stages, **tuning)
    smaller = "make fewer frames at once with --window"
    film = written(path, fps=rate, size=size, metadata=note, sound=options.clip if kept else None)
    with clock.time("upscale"), enough_memory(smaller), progress("upscaling") as report, film as add:
        for piece in pieces:
            add(piece)
            made += piece.shape[1]
            report(min(1.0, made / (facts.frames * options.time)), f"{made} frames")
    return {
        "path": str(path),
        "frames": made,
        "height": size[0],
        "width": size[1],
        "fps": rate,
        "model": options.model,
        "steps": stages[0].steps,
        "lost": said,
        "seconds": clock.seconds,
    }


def told(result: dict[str, Any]) -> str:
    """The file, what of the clip it could not keep, and how long it took."""
    shape = f"{result['frames']} frames of {result['height']}x{result['width']} at {result['fps']:.5g} a second"
    lost = [f"not kept: {what}" for what in result["lost"]]
    return "\n".join(
        [
            f"{result['path']}  {shape}",
            *lost,
            ", ".join(f"{part} {seconds:.1f} s" for part, seconds in result["seconds"].items()),
        ]
    )


def check(options: Namespace) -> None:
    """Refuse options that make no sense, before anything is loaded.

    Raises:
        ValueError: names the option and what it takes.
    """
    for name, least in LEAST.items():
        value = getattr(options, name)
        if value is not None and not least <= value < 2**62:
            raise ValueError(f"--{name} takes {least} or more, not {value}")
    if options.space == options.time == 1:
        raise ValueError("say how much larger: --space 4 (in height and width), --time 2 (in frames a second), or both")
    if options.output and options.output.exists() and options.clip.exists() and options.output.samefile(options.clip):
        raise ValueError(f"{options.output} is the clip itself: choose another name for the larger one")


def output(options: Namespace, facts: Probe) -> Path:
    """Where the result goes: as the user says, else a file that can hold it.

    Raises:
        ValueError: a clip of one frame cannot be given more; a moving clip cannot be one picture.
    """
    if facts.frames == 1 and options.time > 1:
        raise ValueError(f"{options.clip} is a single frame: there is nothing between frames to make, leave --time out")
    path: Path = options.output or Path("out.png" if facts.frames == 1 else "out.mp4")
    if facts.frames > 1 and path.suffix.lower() == ".png":
        raise ValueError(f"{path.name} holds one picture and the clip moves: end the name in .mp4, .webm, .gif, .webp or .apng")
    return path


def notes(options: Namespace, steps: int) -> dict[str, Any]:
    """What is kept inside the file, so that it can be made again."""
    wanted = ("model", "space", "time", "prompt", "seed", "tile", "window")
    given = {name: getattr(options, name) for name in wanted if getattr(options, name) is not None}
    return {"upscaled": options.clip.name, **given, "steps": steps, "noisereel": __version__}
