"""``noisereel prepare``: from a place with videos to scenes worth training on, and their latents."""

from __future__ import annotations

import math
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from noisereel.cli.parsing import Parser

NONE = "none"


def parse(arguments: Sequence[str]) -> Namespace | None:
    """The options, or None after printing help. Errors: ValueError."""
    parser = Parser("prepare", "Cut videos into scenes, leave out what is not worth training on, and encode the rest.")
    add = parser.add_argument
    add("place", metavar="PLACE", help="a folder or file of clips in any layout that is read, or hf:OWNER/NAME")
    add("--out", metavar="FOLDER", required=True, help="what to write, and to give to train --data; videos are not copied")
    add("--model", default="default", metavar="MODEL", help="whose autoencoder makes the latents (default); none: make none")
    add("--moments", type=int, default=4, metavar="N", help="at how many moments of each scene clips are cut (4)")
    add("--cuts", choices=("adaptive", "content", "none"), default="adaptive", help="PySceneDetect's detector (adaptive)")
    add("--seconds", default="0:inf", metavar="LOW:HIGH", help="how long a scene must last (as long as a clip of the model)")
    add("--brightness", default="0.02:0.98", metavar="LOW:HIGH", help="its mean, black being 0 and white 1 (0.02:0.98)")
    add("--motion", default="0.0005:inf", metavar="LOW:HIGH", help="change of a small picture's pixels in 1/8 s (0.0005:inf)")
    add("--duplicates", type=float, default=2.5, metavar="BITS", help="of 64 that copies differ in; -1 keeps them (2.5)")
    add("--dry-run", action="store_true", help="choose the scenes, say how large the latents would be, and make none")
    add("--engine", choices=("local", "ray"), default="local", help="where the work is done: here, or on a Ray cluster")
    add("--ray", metavar="ADDRESS", help="of --engine ray: the cluster; one of this machine is started if not given")
    add("--workers", type=int, metavar="N", help="processes that decode (one for each core)")
    add("--device", metavar="NAME", help="that encodes: cpu, cuda, ...; the best there is if not given")
    return checked(parser.parse(arguments))


def checked(options: Namespace | None) -> Namespace | None:
    """The options, if they make sense. Errors: ValueError."""
    if options is None:
        return None
    for name in ("seconds", "brightness", "motion"):
        setattr(options, name, _range(name, getattr(options, name)))
    if options.workers is not None and options.workers < 1:
        raise ValueError(f"--workers takes 1 or more, not {options.workers}")
    if options.ray and options.engine != "ray":
        raise ValueError("--ray goes with --engine ray")
    if options.engine == "ray" and find_spec("ray") is None:
        raise ValueError("--engine ray needs Ray: pip install 'noisereel[ray]'")
    return options


def _range(name: str, given: str) -> tuple[float, float]:
    low, colon, high = given.partition(":")
    try:
        numbers = float(low or -math.inf), float(high or math.inf)
    except ValueError:
        numbers = (math.nan, math.nan)
    if not colon or math.isnan(sum(numbers)):
        raise ValueError(f"--{name} takes LOW:HIGH, such as 0.1:0.9 or 2:, not {given!r}")
    return numbers


def run(options: Namespace) -> dict[str, Any]:
    """Choose scenes and write them down; then encode them. What Ray prints of processes that died is not the result."""
    with redirect_stdout(sys.stderr):
        return _prepared(options)


def _prepared(options: Namespace) -> dict[str, Any]:
    from noisereel.cli.progress import progress
    from noisereel.data.guard import cores
    from noisereel.data.prepare import choose_scenes

    encoder = _encoder(options) if options.model != NONE else None
    order = _order(options, encoder)
    with progress("looking") as report:
        result = choose_scenes(order, _spread(options, risky=True), report)
    if encoder is None:
        return result | {"next": f"noisereel train vdm --data {options.out} --out runs/mine"}
    size = encoder.estimate()
    said = f"{size['latents']} clips, {size['latents_there']} of them there, {size['megabytes']} MB in all"
    print(f"noisereel: latents of {said}", file=sys.stderr)
    if not options.dry_run:
        with progress("encoding") as report:
            spread = _spread(options) if options.engine == "ray" else None
            encoder.fill(spread, (options.workers or cores()) - 1, report)
        result |= {"next": f"noisereel train sora --data {options.out} --vae {options.model} --out runs/mine"}
    return result | size


def _encoder(options: Namespace) -> Any:
    from noisereel.making.prepare import Encoder

    encoder = Encoder(model=options.model, folder=Path(options.out), device=options.device)
    encoder.stage()  # a model that cannot be opened is told before hours of looking
    return encoder


def _order(options: Namespace, encoder: Any) -> Any:
    from noisereel.data.prepare import Order
    from noisereel.data.sift import Rules

    low, high = options.seconds
    if encoder is not None:
        low = max(low, encoder.seconds())
    rules = Rules(seconds=(low, high), brightness=options.brightness, motion=options.motion, duplicates=options.duplicates)
    return Order(place=options.place, out=Path(options.out), rules=rules, cuts=options.cuts, moments=options.moments)


def _spread(options: Namespace, *, risky: bool = False) -> Any:
    if options.engine == "ray":
        from noisereel.making.on_ray import OnRay

        gpu = (options.device or "").startswith("cuda") and not risky
        return OnRay(address=options.ray, risky=risky, gpus=float(gpu))
    from functools import partial

    from noisereel.data.guard import guarded

    return partial(guarded, processes=options.workers or 0)


def told(result: dict[str, Any]) -> str:
    """What was found and made, one fact a line."""
    from noisereel.cli.data import told as listed

    return listed(result)
