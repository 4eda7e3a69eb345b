"""``noisereel evaluate``: how well a model follows prompts it never saw, read from its pixels by an oracle."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisereel.cli.parsing import Parser
from noisereel.cli.progress import progress

if TYPE_CHECKING:
    from noisereel.system import System

COLUMNS = ("model", "ceiling", "shuffled", "frozen")


def parse(arguments: Sequence[str]) -> Namespace | None:
    """The verb's options."""
    parser = Parser("evaluate", "Prompt following on held-out captions of the shapes world.")
    parser.add_argument(
        "model", metavar="MODEL", nargs="?", default="default", help="a shipped model, a folder, or a name on the hub"
    )
    parser.add_argument(
        "--report", type=Path, metavar="FOLDER", help="measure everything else too, and write report.html and report.json there"
    )
    sampling(parser)
    return parser.parse(arguments)


def sampling(parser: Parser) -> None:
    """The options of how videos are made and judged."""
    add = parser.add_argument
    add("--count", type=int, default=256, metavar="N", help="prompts, 256 if not given: intervals of about 0.06")
    add("--seed", type=int, default=0, help="of the first video's noise")
    add("--steps", type=int, metavar="N", help="sampling steps")
    add("--guidance", type=float, metavar="SCALE", help="guidance scale; 1 is none")
    add("--batch", type=int, default=32, metavar="N", help="videos at a time")
    add("--part", choices=("small", "full"), help="of the shapes world; the one that the model was trained on if not given")
    add("--wording", choices=("seen", "unseen phrasing", "unseen words"), default="seen", help="how prompts are phrased")
    add("--device", metavar="NAME", help="cpu, cuda, ...; the best there is if not given")


def chosen(options: Namespace) -> dict[str, Any]:
    """Those of ``sampling`` that an evaluation takes.

    Raises:
        ValueError: a number that is too small.
    """
    for name, least in (("count", 2), ("batch", 1), ("seed", 0)):
        if getattr(options, name) < least:
            raise ValueError(f"--{name} takes {least} or more, not {getattr(options, name)}")
    return {name: getattr(options, name) for name in ("count", "seed", "batch", "wording")}


def run(options: Namespace) -> dict[str, Any]:
    """Sample, judge, and return every rate with its interval."""
    how = chosen(options)
    if options.report is not None:
        from noisereel.cli.compare import reported

        return reported([options.model], options.report, options, **how)
    from noisereel.evaluate.following import following

    system, settings = opened(options.model, options)
    with progress("evaluating") as report:
        for moment in following(system, part=settings["part"], **how):
            report(moment.done / moment.total, "")
            result = moment.following
    assert result is not None
    return {"model_name": options.model, **settings, **result.to_json()}


def opened(model: str, options: Namespace) -> tuple[System, dict[str, Any]]:
    """A model as the options ask for it, and what is to be said of how it is sampled."""
    from noisereel.making.device import pick
    from noisereel.pipeline import TextToVideo

    pipe = TextToVideo.from_pretrained(model).to(pick(options.device))
    system = pipe.tuned(options.steps, options.guidance)
    part = options.part or ("small" if pipe.call["arguments"].get("data", "shapes-small") == "shapes-small" else "full")
    return system, {"part": part, "steps": system.first.steps, "guidance": pipe.guidance(options.guidance)}


def told(result: dict[str, Any]) -> str:
    """A table: a row for each attribute, the model against its ceiling and its controls."""
    if "report" in result:
        from noisereel.cli.compare import told as told_of_reports

        return told_of_reports(result)
    facts = ("model_name", "part", "count", "seed", "wording", "steps", "guidance", "seconds_per_clip")
    lines = [f"{name:18}{result[name]}" for name in facts]
    lines += ["", f"{'':12}{'model':>8}{'(95 %)':>16}{'ceiling':>10}{'shuffled':>10}{'frozen':>10}"]
    for name, rate in result["model"].items():
        others = "".join(f"{result[column][name]['rate']:10.3f}" for column in COLUMNS[1:])
        interval = f"({rate['low']:.3f}-{rate['high']:.3f})"
        lines.append(f"{name:12}{rate['rate']:8.3f}{interval:>16}{others}")
    return "\n".join(lines)
