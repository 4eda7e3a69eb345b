"""``noisereel decode``: videos from latents that ``generate`` had to keep."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisereel.cli.clock import Clock
from noisereel.cli.parsing import Parser
from noisereel.making.device import pick

if TYPE_CHECKING:
    from noisereel.cli.latents import Kept


def parse(arguments: Sequence[str]) -> Namespace | None:
    """The verb's options."""
    parser = Parser("decode", "Make the video of latents that generate kept because it could not decode them.")
    add = parser.add_argument
    add("latents", nargs="+", type=Path, metavar="FILE", help="what generate named, ending in .latents.safetensors")
    add("-o", "--output", type=Path, metavar="FILE", help="where the video goes; where generate was to put it if not given")
    add("--model", help="a shipped model, a folder, or a name on the hub; the one that sampled it if not given")
    add("--device", metavar="NAME", help="cpu, cuda, ...; the best there is if not given")
    return parser.parse(arguments)


def run(options: Namespace) -> dict[str, Any]:
    """Decode and write each, one after the other."""
    from noisereel.cli.latents import Kept
    from noisereel.making.memory import enough_memory

    if options.output and len(options.latents) > 1:
        raise ValueError(f"--output names one file, for {len(options.latents)} videos: leave it out, or decode them one by one")
    kept = [Kept.load(path) for path in options.latents]
    if options.output:
        kept = [replace(kept[0], output=options.output)]
    clock = Clock()
    videos = []
    for one in kept:
        with clock.time("decode"), enough_memory("decode it on another --device"):
            video = decoded(one, options.model or one.note["model"], options.device)
        with clock.time("write"):
            videos.append({"path": str(one.finish.write(video, one.output, one.note)), **one.note})
    return {"path": videos[0]["path"], "seconds": clock.seconds, "videos": videos}


def told(result: dict[str, Any]) -> str:
    """The files, and how long each part took."""
    files = [video["path"] for video in result["videos"]]
    return "\n".join([*files, ", ".join(f"{part} {seconds:.1f} s" for part, seconds in result["seconds"].items())])


def decoded(kept: Kept, model: str, device: str | None) -> Any:
    """The video, in [-1, 1].

    Raises:
        ValueError: another model's latents.
    """
    from noisereel.pipeline import TextToVideo

    pipe = TextToVideo.from_pretrained(model).to(pick(device))
    stage = pipe.system.stages.get(kept.stage)
    if stage is None or stage.codec.channels != kept.latent.shape[1]:
        raise ValueError(f"{model} did not sample these latents: name the model that did with --model ({kept.note['model']})")
    return stage.decode(kept.latent.to(stage.device))
