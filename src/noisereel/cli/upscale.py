"""``noisereel upscale``: a clip in, a larger one with more frames out."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        from noisereel.data.reader import probe
        from noisereel.data.writer import checked, written
        from noisereel.making.enlarge import Wish, enlargement
        from noisereel.making.memory import enough_memory
        from noisereel.pipeline import TextToVideo

        facts = probe(options.clip)
        path = output(options, facts)
        rate, size = facts.fps * options.time, (facts.height * options.space, facts.width * options.space)
        checked(path, fps=rate, size=size)
        pipe = TextToVideo.from_pretrained(options.model).to(pick(options.device))
        wish = Wish(**{field.name: getattr(options, field.name) for field in fields(Wish)})
        job = enlargement(pipe, wish, size)
    said = losses(options.clip, path.suffix.lower())
    kept, _ = sounds(options.clip, path.suffix.lower())
    note = job.note(options.model, options.clip.name)
    smaller = "make fewer frames at once with --window"
    film = written(path, fps=rate, size=size, metadata=note, sound=options.clip if kept else None)
    made = 0

    def report(share: float) -> None:
        shown(share, f"{made} frames")

    with clock.time("upscale"), enough_memory(smaller), progress("upscaling") as shown, film as add:
        for piece in job.pieces(options.clip, facts.frames, report):
            add(piece)
            made += piece.shape[1]
    return {
        "path": str(path),
        "frames": made,
        "height": size[0],
        "width": size[1],
        "fps": rate,
        "model": options.model,
        "steps": note["steps"],
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
