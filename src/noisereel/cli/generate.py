"""``noisereel generate``: sentences in, files out."""

from __future__ import annotations

import secrets
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisereel.cli.clock import Clock
from noisereel.cli.parsing import Parser
from noisereel.cli.progress import Report, progress
from noisereel.making.device import pick

if TYPE_CHECKING:  # torch takes a second to import, and help needs none of it
    from noisereel.making.job import Job
    from noisereel.pipeline import TextToVideo
    from noisereel.types import Video

AT_ONCE = 8  # videos sampled together: more costs memory and gains little


def parse(arguments: Sequence[str]) -> Namespace | None:
    """The verb's options."""
    parser = Parser("generate", "Make a video from a sentence, or an image with --frames 1.")
    add = parser.add_argument
    add("prompt", nargs="*", metavar="PROMPT", help="what to show, in quotes; several make several videos")
    add("--like", type=Path, metavar="FILE", help="make the video of a generated file again, with its prompt, seed, model and settings; what else is given is changed")  # fmt: skip # noqa: E501
    add("-o", "--output", type=Path, metavar="FILE", help="its ending says the format: mp4 (out.mp4 if not given; out.apng if transparent), webm, gif, webp, apng, or png for a contact sheet; several videos are numbered")  # fmt: skip # noqa: E501
    add("--model", help="a shipped model, a folder, or a name on the Hugging Face hub; default if not given")
    add(
        "--lora",
        action="append",
        metavar="FILE[=WEIGHT]",
        help="an adapter of train --lora, at a weight; 1 if not given",
    )
    add("--seed", type=int, help="of the first video, the others count up from it; random and printed if not given")
    add("--count", type=int, default=1, metavar="N", help="videos for each prompt")
    add("--steps", type=int, metavar="N", help="sampling steps: more is slower and finer")
    add("--guidance", type=float, metavar="SCALE", help="how much to insist on the prompt; 1 is not at all")
    add("--negative", metavar="PROMPT", help="what to lean away from")
    add("--frames", type=int, metavar="N", help="length, at most what the model makes at once; 1 makes an image")
    add("--height", type=int, metavar="N", help="in pixels, before --scale")
    add("--width", type=int, metavar="N", help="in pixels, before --scale")
    add("--image", type=Path, metavar="FILE", help="what the video begins with: cropped at its centre to the video's shape")
    add("--clip", type=Path, metavar="FILE", help="a clip to go on from, with --extend")
    add("--extend", type=int, metavar="FRAMES", help="a longer video: go on from the last frames until there are so many")
    add("--between", type=Path, action="append", metavar="CLIP", help="make what lies between the frames of a clip; again for a further clip or image")  # fmt: skip # noqa: E501
    add("--fps", type=float, metavar="N", help="frames a second of the file; the model's own if not given")
    add("--scale", type=int, metavar="N", help="enlarge each pixel N times; small videos to about 256 pixels if not given")
    add("--stages", action="store_true", help="of a cascade: what every stage made, side by side, in a further file")
    add("--sheet", action="store_true", help="a sprite sheet: a png of equal cells, and a json that says where they are")
    add("--transparent", action="store_true", help="make the plain ground transparent, for gif, webp, apng and png")
    add("--signing", nargs=2, metavar=("CERTIFICATES", "KEY"), help="sign content credentials (C2PA) into each file, with these PEM files")  # fmt: skip # noqa: E501
    add("--device", metavar="NAME", help="cpu, cuda, ...; the best there is if not given")
    return parser.parse(arguments)


def run(options: Namespace) -> dict[str, Any]:
    """Make the videos, and say where they are."""
    if options.like:
        from noisereel.cli.like import repeated_from

        options = repeated_from(options)
    check(options)
    options.model = options.model or "default"
    options.signing = tuple(options.signing) if options.signing else None
    clock = Clock()
    with clock.time("load"):
        from noisereel.making.job import Order, prepared
        from noisereel.making.recipe import recipe
        from noisereel.pipeline import TextToVideo, repeated

        prompts = repeated(options.prompt, options.count)
        paths = places(options, len(prompts))
        pipe = TextToVideo.from_pretrained(options.model).to(pick(options.device))
        for path, weight in map(weighed, options.lora or ()):
            pipe.load_lora(path, weight)
            pipe.fuse_lora()
        order = Order(**{field.name: getattr(options, field.name) for field in fields(Order)})
        job = prepared(pipe, prompts, order)
        at_once = affordable(job, paths[0], len(prompts))
        if options.stages and len(job.system.stages) == 1:
            raise ValueError(f"--stages shows what the stages of a cascade made, and {options.model} has one: leave it out")
        unknown = tell_unknown_words(pipe, prompts)
    seed = secrets.randbits(31) if options.seed is None else options.seed
    common = recipe(pipe, options.model, job, order) | ({"lora": options.lora} if options.lora else {})
    made = [{"prompt": prompt, "seed": seed + number, **common} for number, prompt in enumerate(prompts)]
    with progress("sampling") as report:
        problems = make(job, made, paths, at_once, clock, report, stages=options.stages)
    if problems:
        raise ValueError(problems[0] + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""))
    videos = [{"path": str(path), **note} for path, note in zip(paths, made, strict=True)]
    first = {key: videos[0][key] for key in ("path", "seed", "model", "steps")}
    return {**first, "seconds": clock.seconds, "unknown_words": unknown, "videos": videos}


def weighed(given: str) -> tuple[str, float]:
    """The file and the weight of an adapter.

    Raises:
        ValueError: the weight is not a number.
    """
    path, equals, weight = given.rpartition("=")
    try:
        return (path, float(weight)) if equals else (given, 1.0)
    except ValueError as error:
        raise ValueError(f"--lora takes FILE or FILE=WEIGHT, such as {path}=0.8, not {given}") from error


def make(
    job: Job,
    notes: Sequence[dict[str, Any]],
    paths: Sequence[Path],
    at_once: int,
    clock: Clock,
    report: Report,
    *,
    stages: bool = False,
) -> list[str]:
    """Sample and write every video, ``at_once`` at a time; returns what is wrong with those not written as asked.

    Raises:
        ValueError: not enough memory; what was sampled and could not be decoded is kept.
    """
    from noisereel.cli.latents import keeping
    from noisereel.making.memory import enough_memory

    problems: list[str] = []
    for start in range(0, len(notes), at_once):
        some, places = notes[start : start + at_once], paths[start : start + at_once]
        if len(some) > 1:  # the last bits depend on how many are sampled together
            some = [{**note, "batch": len(some)} for note in some]

        def share_done(share: float, start: int = start, count: int = len(some)) -> None:
            report((start + share * count) / len(notes), "")

        smaller = "make it smaller with --height, --width or --frames"
        with clock.time("sample"), enough_memory(smaller), keeping(job.finish, places, some):
            made = job.sample([note["prompt"] for note in some], [note["seed"] for note in some], share_done)
        *_, video = made.values()
        with clock.time("write"):
            if stages:
                write_stages(made, places, some, job.finish.fps)
            for one, path, note in zip(video.split(1), places, some, strict=True):
                try:
                    job.finish.write(one, path, note)
                except ValueError as error:  # the others are still worth writing
                    problems.append(str(error))
    return problems


def write_stages(made: Mapping[str, Video], paths: Sequence[Path], notes: Sequence[dict[str, Any]], fps: float) -> None:
    """What every stage made of each video, side by side, beside the video's own file."""
    from noisereel.data.comparison import side_by_side
    from noisereel.data.writer import write

    for number, (path, note) in enumerate(zip(paths, notes, strict=True)):
        shown = side_by_side({name: videos[number].float().cpu() for name, videos in made.items()})
        write(shown, path.with_stem(f"{path.stem}-stages"), fps=fps, metadata=note)


def affordable(job: Job, path: Path, count: int) -> int:
    """How many videos can be sampled together.

    Raises:
        ValueError: not one fits in memory, or the file's format does not hold it.
    """
    from noisereel.making.memory import check_file, samples_at_once

    at_once = samples_at_once(job.system.first, job.shape, min(AT_ONCE, count), known=job.known)
    job.finish.check(path, job.shape[1:])
    check_file(job.length, job.shape[1:], job.finish.scale)
    return at_once


def told(result: dict[str, Any]) -> str:
    """The files, and how long each part took."""
    files = [f"{video['path']}  seed {video['seed']}" for video in result["videos"]]
    return "\n".join([*files, ", ".join(f"{part} {seconds:.1f} s" for part, seconds in result["seconds"].items())])


def check(options: Namespace) -> None:
    """Refuse options that make no sense, before anything is loaded.

    Raises:
        ValueError: names the option and what it takes.
    """
    for name, least in (("count", 1), ("scale", 1), ("seed", 0), ("extend", 1), ("frames", 1)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise ValueError(f"--{name} takes {least} or more, not {value}")
    if options.seed is not None and options.seed >= 2**62:
        raise ValueError(f"--seed takes less than 2**62, not {options.seed}")
    if not options.prompt:
        raise ValueError("what should the video show? Give a sentence in quotes, or a generated file with --like")
    if options.fps is not None and not 0 < options.fps <= 240:
        raise ValueError(f"--fps takes a number above 0, up to 240, not {options.fps}")
    if len(options.prompt) > 2 and not any(" " in prompt.strip() for prompt in options.prompt):
        raise ValueError(
            f'{len(options.prompt)} prompts of one word each: put a sentence in quotes, "{" ".join(options.prompt)}"'
        )
    lengths = [f"--{name}" for name in ("frames", "extend", "between") if getattr(options, name) is not None]
    if options.image and options.between:
        raise ValueError("--image and --between each say what the video begins with: give one of them")
    if options.clip and (options.image or options.between or options.frames or not options.extend):
        raise ValueError(
            "--clip is gone on from until there are --extend frames: give --extend, and no other beginning or length"
        )
    if options.image and options.frames == 1:
        raise ValueError("--image is the first frame: --frames 1 leaves none to make")
    if len(lengths) > 1:
        raise ValueError(f"{' and '.join(lengths)} each say how long the video is: give one of them")


def places(options: Namespace, count: int) -> list[Path]:
    """Where the videos go.

    Raises:
        ValueError: an unknown ending, a folder that is missing or cannot be written to.
    """
    from noisereel.data.writer import checked

    animated = "out.apng" if options.transparent else "out.mp4"
    path = options.output or Path("out.png" if options.sheet or options.frames == 1 else animated)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name a file in it, such as {path / 'out.mp4'}")
    digits = len(str(count))
    paths = [path] if count == 1 else [path.with_stem(f"{path.stem}-{number:0{digits}}") for number in range(1, count + 1)]
    return [checked(path, sheet=options.sheet, fps=options.fps, transparent=options.transparent) for path in paths]


def tell_unknown_words(pipe: TextToVideo, prompts: Sequence[str]) -> list[str]:
    """Words the model never saw, said on stderr."""
    words = list(dict.fromkeys(word for prompt in prompts for word in pipe.unknown_words(prompt)))
    if words:
        print(f"noisereel: the model never saw {', '.join(map(repr, words))} in training, and will guess", file=sys.stderr)
    return words
