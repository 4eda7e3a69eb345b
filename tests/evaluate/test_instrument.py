"""The instrument: perfect for a system that renders what it is asked, and not for one that is deaf, frozen, pale or copies."""

from types import SimpleNamespace

import pytest
import torch

from noisereel.evaluate.instrument import frozen, measured, paler
from noisereel.evaluate.report import Report, page, side_by_side
from noisereel.system import System
from noisereel.worlds.shapes import Shapes, render, scene

SHAPE = (8, 32, 32)
COUNT = 48


class Painter(System):
    """Stands for a system: renders the true scene of each prompt, then ``spoils`` the clips."""

    last = SimpleNamespace(shape=SHAPE, fps=8.0)

    def __init__(self, spoil=lambda videos: videos):
        object.__setattr__(self, "spoil", spoil)
        object.__setattr__(self, "truth", dict(Shapes(part="small", frames=8, fps=8.0).captions(COUNT, "held_out", "seen")))
        object.__setattr__(self, "stages", {})

    def sample(self, prompts, rng):
        videos = torch.stack([render(self.truth[prompt], *SHAPE, 8.0) for prompt in prompts])
        yield SimpleNamespace(video=self.spoil(videos))


def measures(system):
    *_, last = measured(system, part="small", count=COUNT, batch=COUNT)
    return {measure.name: measure for measure in last.measures}, last


@pytest.fixture(scope="module")
def obedient():
    return measures(Painter())


def test_true_videos_measure_as_the_truth_does_and_every_control_is_told_apart(obedient):
    found, last = obedient
    assert last.following.model == last.following.ceiling
    for measure in found.values():
        assert measure.confused == [], measure
        assert measure.model == measure.truth
    assert found["Fréchet distance"].truth.value < 0.5 * found["Fréchet distance"].controls["first frame frozen"].value
    assert found["kernel distance"].truth.low < 0 < found["kernel distance"].truth.high


@pytest.mark.parametrize(
    ("spoil", "worse"),
    [
        (frozen, "off course"),
        (frozen, "Fréchet distance"),
        (paler, "colour drift"),
        (lambda videos: videos.roll(1, dims=0), "off course"),
        (lambda videos: videos + 0.01 * torch.randn(8, 1, 1, generator=torch.Generator().manual_seed(0)), "flicker"),
    ],
)
def test_what_is_wrong_with_a_system_is_seen(obedient, spoil, worse):
    found, _ = measures(Painter(spoil))
    assert found[worse].model.low > found[worse].truth.high


def test_copies_of_training_clips_are_seen():
    copies = torch.stack([render(scene(number, "small", "train"), *SHAPE, 8.0) for number in range(COUNT)])
    found, _ = measures(Painter(lambda videos: copies))
    assert found["distance from training"].model.value < 1e-2 < found["distance from training"].truth.low


def test_the_page_shows_every_number_and_escapes_what_it_is_given(obedient):
    _, last = obedient
    report = Report(
        name="<b>", settings={"steps": 7}, following=last.following, measures=last.measures, losses={"base, t = 0.5": 0.25}
    )
    html = page([report, report], [(last.videos, 8.0)] * 2, ["<script>", *last.prompts[1:]])
    assert "<script>" not in html
    assert "&lt;b&gt;" in html
    assert html.count("data:image/webp;base64,") == 16
    assert "http" not in html  # it needs nothing beside itself
    assert all(measure.name in html for measure in last.measures)


def test_videos_of_different_sizes_and_rates_play_side_by_side_in_time():
    slow, fast = torch.zeros(3, 4, 8, 8), torch.ones(3, 16, 16, 16)
    slow[:, 2:] = 1
    film, fps = side_by_side([(slow, 4.0), (fast, 16.0)])
    assert fps == 16
    assert film.shape[1:3] == (16, 16)
    left = film[0, :, :, :16].mean(dim=(1, 2))
    assert left[:8].max() == 0  # half a second, at either rate
    assert left[8:].min() == 1
