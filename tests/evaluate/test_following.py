"""Prompt following: a system that obeys scores as the ceiling, a deaf one like the control, and the counts are exact."""

from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from noisereel.evaluate.following import following
from noisereel.system import System
from noisereel.types import rand
from noisereel.worlds.shapes import Shapes, render

SHAPE = (8, 32, 32)


class Painter(System):
    """Stands for a system: renders, for each prompt, what ``choose`` picks of the true scenes."""

    last = SimpleNamespace(shape=SHAPE, fps=8.0)
    truth: ClassVar = dict(Shapes(part="small", frames=8, fps=8.0).captions(24, "held_out", "seen"))

    def __init__(self, choose):
        object.__setattr__(self, "choose", choose)

    def sample(self, prompts, rng):
        scenes = [self.choose(self.truth, prompt) for prompt in prompts]
        yield SimpleNamespace(video=torch.stack([render(scene, *SHAPE, 8.0) for scene in scenes]) + 0 * rand(rng, 3, *SHAPE))


def result(choose, **options):
    *_, last = following(Painter(choose), part="small", count=24, batch=7, **options)
    return last.following


def test_an_obedient_system_reaches_the_ceiling_and_its_controls_fail():
    found = result(lambda truth, prompt: truth[prompt])
    assert found.model == found.ceiling
    assert found.model["all"].rate >= 0.95
    assert found.shuffled["all"].rate <= 0.1
    still = sum(scene.motion == "still" for scene in Painter(None).truth.values()) / 24
    assert found.frozen["motion"].rate == pytest.approx(still, abs=0.05)


def test_a_deaf_system_is_heard_to_be_deaf():
    one = next(iter(Painter(None).truth.values()))
    found = result(lambda truth, prompt: one)
    assert found.model["all"].rate <= 0.1
    assert found.model["all"].low <= found.model["all"].rate <= found.model["all"].high
    assert found.ceiling["all"].rate >= 0.95


def test_progress_counts_prompts_and_the_report_is_json():
    steps = list(following(Painter(lambda truth, prompt: truth[prompt]), part="small", count=24, batch=7))
    assert [step.done for step in steps] == [7, 14, 21, 24]
    report = steps[-1].following.to_json()
    assert report["count"] == 24
    assert set(report["model"]) == {"shape", "colour", "size", "ground", "motion", "all"}
    assert len(steps[-1].following.table()) == 6


def test_too_few_prompts_are_refused():
    with pytest.raises(ValueError, match="at least 2"):
        next(following(Painter(None), part="small", count=1))


def test_the_same_prompts_each_time():
    world = Shapes(part="small", frames=8, fps=8.0)
    assert world.captions(10, "held_out", "seen") == world.captions(20, "held_out", "seen")[:10]
