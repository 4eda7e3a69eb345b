"""What is measured of memory, and what is refused for want of it."""

from dataclasses import replace

import pytest
import torch

from noisereel.making import memory
from noisereel.making.memory import Demand, check_file, demand, samples_at_once
from noisereel.pipeline import TextToVideo
from noisereel.stage import Stage


def test_bytes_are_counted_while_they_live() -> None:
    kept = torch.zeros(1000)
    with memory._Alive() as alive:
        first = torch.ones(100)  # 400 bytes
        second = first + kept[:100]  # 800, and kept is not ours
        del first
        third = second.repeat(3)  # 400 + 1200
        view = third[:50]
        third.add_(1)
    assert alive.most == 1600
    assert alive.now == 1600
    del second, third
    assert alive.now == 1200, "a view keeps its storage alive"
    del view
    assert alive.now == 0


def test_what_gradients_need_is_counted() -> None:
    x = torch.zeros(100, requires_grad=True)
    with memory._Alive() as alive:
        y = x.exp().sin().sum()
    assert alive.now == 4 * 101, "exp's result is kept for going back"
    del y
    assert alive.now == 0


@pytest.mark.parametrize("known", [False, True])
def test_a_line_through_small_sizes_foretells_larger_ones(tiny: TextToVideo, known: bool) -> None:
    stage = tiny.system.first
    foretold = demand(stage, 4, known=known)((4, 64, 96))
    assert foretold == pytest.approx(memory._peak(stage, (4, 64, 96), known), rel=0.1)


@pytest.fixture
def stage(tiny: TextToVideo, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A stage that takes a gigabyte and a kilobyte for each pixel, where ten gigabytes are free."""
    monkeypatch.setattr(memory, "available", lambda device: 10e9)
    monkeypatch.setattr(memory, "demand", lambda stage, frames, known: Demand(fixed=1e9, each=1e3))
    return tiny.system.first


def test_as_many_are_sampled_at_once_as_fit(stage: Stage) -> None:
    assert samples_at_once(stage, (4, 512, 512), 8, known=False) == 4
    assert samples_at_once(stage, (4, 1024, 1024), 8, known=False) == 1
    assert samples_at_once(stage, (4, 16, 16), 8, known=False) == 8


def test_what_would_fit_is_named_and_fits(stage: Stage) -> None:
    with pytest.raises(
        ValueError, match=r"4 frames of 4096x2048 need 35 GB of memory or more, and 10 GB are free: 2120x1060 would fit"
    ):
        samples_at_once(stage, (4, 4096, 2048), 1, known=False)
    stage.latent_shape((4, 2120, 1060))
    assert samples_at_once(stage, (4, 2120, 1060), 1, known=False) == 1


def test_where_nothing_fits_it_says_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda device: 1e6)
    with pytest.raises(ValueError, match="make it smaller"):
        samples_at_once(stage, (4, 512, 512), 1, known=False)


def test_files_too_large_to_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda device: 1e9)
    check_file(16, (64, 64), 20)
    with pytest.raises(ValueError, match=r"--scale 71 would fit"):
        check_file(16, (64, 64), 100)
    check_file(16, (64, 64), 71)
    with pytest.raises(ValueError, match=r"9042 frames would fit"):
        check_file(10**6, (64, 64), 1)
    check_file(9042, (64, 64), 1)


def test_a_size_without_a_measurement_costs_none(tiny: TextToVideo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "demand", None)
    silent = replace(tiny.system.first, steps=1)
    assert samples_at_once(silent, (4, 64, 64), 8, known=True) == 8
