"""Reports of evaluations: one JSON object, and one HTML page that needs nothing beside itself."""

from __future__ import annotations

import base64
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from noisereel.data import writer
from noisereel.evaluate.following import Following
from noisereel.evaluate.measure import Estimate, Measure, rate_of
from noisereel.types import Video

SAMPLES = 8  # videos on the page: those of the first seeds, not chosen
SIDE = 128  # pixels to which they are enlarged, about

ABOUT = """Measured on held-out prompts of the shapes world. Intervals are 95 %. Controls are true clips, spoilt on purpose; a
measure that cannot tell them from true ones says nothing, and its value is withheld."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found of one model."""

    name: str
    settings: Mapping[str, Any]  # how it was sampled, how large it is, on what machine
    following: Following
    measures: Sequence[Measure]
    losses: Mapping[str, float] = field(default_factory=dict)  # held-out loss by noise level

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON-able values."""
        measures = {measure.name: measure.to_json() for measure in self.measures}
        following = self.following.to_json()
        return {
            "model_name": self.name,
            **self.settings,
            "following": following,
            "measures": measures,
            "losses": dict(self.losses),
        }


def page(reports: Sequence[Report], samples: Sequence[tuple[Video, float]], prompts: Sequence[str]) -> str:
    """The page about one model, or about several side by side: videos and frame rate of each, for the same prompts."""
    names = ", ".join(report.name for report in reports)
    parts = [
        f"<h1>{escape(names)}</h1>",
        f"<p>{ABOUT}</p>",
        _settings(reports),
        "<h2>Prompts followed</h2>",
        _following(reports),
        "<h2>Measures</h2>",
        _measures(reports),
        _losses(reports),
        "<h2>Samples</h2><p>The first seeds, not chosen.</p>",
        *(_samples(report.name, *shown, prompts) for report, shown in zip(reports, samples, strict=True)),
    ]
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    head = f"<title>{escape(names)}: evaluation</title><style>{style}</style>"
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    return f'<!doctype html>\n<html lang="en">{meta}{head}<body>{"".join(parts)}</body></html>\n'


def side_by_side(videos: Sequence[tuple[Float[Tensor, "3 _ _ _"], float]]) -> tuple[Float[Tensor, "3 t h w"], float]:
    """Videos of any size, length and frame rate in one picture, as large, long and fast as the most of them."""
    fps = max(rate for _, rate in videos)
    frames = max(math.ceil(video.shape[1] / rate * fps) for video, rate in videos)
    size = frames, max(video.shape[2] for video, _ in videos), max(video.shape[3] for video, _ in videos)
    moments = torch.arange(frames) / fps
    shown = [
        F.interpolate(video[None, :, (moments * rate).long().clamp(max=video.shape[1] - 1)].float(), size)
        for video, rate in videos
    ]
    return writer.grid(torch.cat(shown), columns=len(shown)), fps


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Cells are HTML."""
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    top = "".join(f"<th>{cell}</th>" for cell in head)
    return f'<div class="scroll"><table><tr>{top}</tr>' + "".join(f"<tr>{line}</tr>" for line in lines) + "</table></div>"


def _settings(reports: Sequence[Report]) -> str:
    names = list(dict.fromkeys(name for report in reports for name in report.settings))
    rows = [[escape(name), *(escape(str(report.settings.get(name, ""))) for report in reports)] for name in names]
    return _table(["", *(escape(report.name) for report in reports)], rows)


def _following(reports: Sequence[Report]) -> str:
    first = reports[0].following
    head = ["", *(escape(report.name) for report in reports), "", "true clips", "captions shuffled", "first frame frozen"]
    rows = []
    for name, _, ceiling, shuffled, frozen in first.table():
        found = [rate_of(report.following.model[name], report.following.count) for report in reports]
        controls = [f"{rate.rate:.2f}" for rate in (ceiling, shuffled, frozen)]
        rows.append(["all five" if name == "all" else name, *map(_number, found), _bars(found), *controls])
    return _table(head, rows)


def _measures(reports: Sequence[Report]) -> str:
    head = ["", *(escape(report.name) for report in reports), "true clips", "controls"]
    rows = []
    for several in zip(*(report.measures for report in reports), strict=True):
        first = several[0]
        found = ["withheld" if measure.confused else _number(measure.model) for measure in several]
        controls = "<br>".join(f"{escape(name)}: {_number(control)}" for name, control in first.controls.items())
        meaning = f'{escape(first.name)}<br><span class="faint">{escape(first.meaning)}; {first.better} is better</span>'
        rows.append([meaning, *found, _number(first.truth), controls])
    return _table(head, rows)


def _losses(reports: Sequence[Report]) -> str:
    if not any(report.losses for report in reports):
        return ""
    levels = list(dict.fromkeys(level for report in reports for level in report.losses))
    rows = [
        [level, *(f"{report.losses[level]:.4f}" if level in report.losses else "" for report in reports)] for level in levels
    ]
    text = "<h2>Held-out loss</h2><p>By noise level, in units of the model's own codec: not to be compared between models.</p>"
    return text + _table(["", *(escape(report.name) for report in reports)], rows)


def _number(estimate: Estimate) -> str:
    """Three figures, with the interval."""
    return f'{estimate.value:.3g} <span class="faint">({estimate.low:.3g} to {estimate.high:.3g})</span>'


def _bars(estimates: Sequence[Estimate]) -> str:
    """A dot and its interval for each model's share, between 0 and 1."""
    height = 100 / len(estimates)
    marks = []
    for number, one in enumerate(estimates):
        y = f"{(number + 0.5) * height:.0f}%"
        marks.append(
            f'<line x1="{100 * one.low:.1f}%" x2="{100 * one.high:.1f}%" y1="{y}" y2="{y}" stroke="var(--model)"/>'
            f'<circle cx="{100 * one.value:.1f}%" cy="{y}" r="3" fill="var(--model)"/>'
        )
    axis = '<line x1="0" x2="100%" y1="100%" y2="100%" stroke="var(--line)"/>'
    return f'<svg role="img" style="height: {1.1 * len(estimates):.1f}rem">{axis}{"".join(marks)}</svg>'


def _samples(name: str, videos: Video, fps: float, prompts: Sequence[str]) -> str:
    shown = zip(videos[:SAMPLES], prompts, strict=False)
    figures = [
        f'<figure><img alt="{escape(prompt)}" src="{_playing(video, fps)}"><figcaption>{escape(prompt)}</figcaption></figure>'
        for video, prompt in shown
    ]
    return f'<h3>{escape(name)}</h3><div class="samples">{"".join(figures)}</div>'


def _playing(video: Float[Tensor, "3 t h w"], fps: float) -> str:
    """A data URL of the clip, animated and without loss."""
    with tempfile.TemporaryDirectory() as folder:
        path = writer.write(video, Path(folder) / "clip.webp", fps=fps, scale=max(1, SIDE // video.shape[-1]))
        return "data:image/webp;base64," + base64.b64encode(path.read_bytes()).decode()
