"""``noisereel compare``: several models measured alike, in one report."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from noisereel.cli.evaluate import chosen, opened, sampling
from noisereel.cli.parsing import Parser
from noisereel.cli.progress import progress


def parse(arguments: Sequence[str]) -> Namespace | None:
    """The verb's options."""
    parser = Parser("compare", "Models side by side: prompts followed, motion, looks, distances, samples.")
    parser.add_argument("models", metavar="MODEL", nargs="+", help="a shipped model, a folder, or a name on the hub")
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="for report.html, report.json and first.mp4, all models' first",
    )
    sampling(parser)
    return parser.parse(arguments)


def run(options: Namespace) -> dict[str, Any]:
    """Measure the models and write the report."""
    return reported(options.models, options.out, options, **chosen(options))


def reported(models: Sequence[str], folder: Path, options: Namespace, **how: Any) -> dict[str, Any]:
    """Measure models one after another, and write ``report.json``, ``report.html`` and the videos of one prompt.

    Raises:
        ValueError: a folder that is there and not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already: name a folder that is empty or new")
    from noisereel.data import writer
    from noisereel.evaluate.instrument import measured
    from noisereel.evaluate.report import Report, page, side_by_side

    reports, samples = [], []
    for model in models:
        system, settings = opened(model, options)
        with progress(f"evaluating {model}") as report:
            for last in measured(system, part=settings["part"], **how):
                report(last.done / last.total, "")
        assert last.videos is not None
        assert last.following is not None
        reports.append(
            Report(name=model, settings=settings, following=last.following, measures=last.measures, losses=last.losses)
        )
        samples.append((last.videos, system.last.fps))
    folder.mkdir(parents=True, exist_ok=True)
    found = {"reports": [one.to_json() for one in reports]}
    (folder / "report.json").write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(page(reports, samples, last.prompts), encoding="utf-8")
    film, fps = side_by_side([(videos[0], fps) for videos, fps in samples])
    writer.write(film, folder / "first.mp4", fps=fps, metadata={"prompt": last.prompts[0], "models": list(models)})
    return {"report": str(folder / "report.html"), **found}


def told(result: dict[str, Any]) -> str:
    """A row for each measure, a column for each model."""
    reports = result["reports"]
    lines = [f"{'':24}" + "".join(f"{report['model_name'][-22:]:>24}" for report in reports)]
    for name in reports[0]["following"]["model"]:
        lines.append(f"{name:24}" + "".join(_cell(report["following"]["model"][name], "rate") for report in reports))
    for name in reports[0]["measures"]:
        lines.append(f"{name:24}" + "".join(_cell(report["measures"][name]["model"], "value") for report in reports))
    return "\n".join([*lines, "", f"report    {result['report']}"])


def _cell(found: dict[str, float] | None, key: str) -> str:
    text = "withheld" if found is None else f"{found[key]:.3f} ({found['low']:.3f}-{found['high']:.3f})"
    return f"{text:>24}"
