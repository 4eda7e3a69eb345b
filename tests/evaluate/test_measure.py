"""Intervals that cover the truth as often as they say, distances with known answers, and controls that must be told apart."""

import numpy as np
import pytest
import torch

from noisereel.evaluate.distances import frechet, kernel, nearest
from noisereel.evaluate.features import shipped
from noisereel.evaluate.measure import Estimate, Measure, halves, mean_of
from noisereel.worlds.shapes import render, scene


def estimate(value, half=0.1):
    return Estimate(value=value, low=value - half, high=value + half, count=10)


CASES = [("less", 2.0, []), ("less", 0.9, ["c"]), ("more", 0.5, []), ("more", 2.0, ["c"])]


@pytest.mark.parametrize(("better", "control", "confused"), CASES)
def test_a_measure_that_confuses_a_control_with_the_truth_does_not_report_the_model(better, control, confused):
    controls = {"c": estimate(control)}
    measure = Measure(name="n", meaning="m", better=better, model=estimate(1.5), truth=estimate(1.0), controls=controls)
    assert measure.confused == confused
    assert (measure.to_json()["model"] is None) == bool(confused)


def test_intervals_of_means_cover_the_truth_about_as_often_as_they_say():
    rng = np.random.default_rng(1)
    found = [mean_of(rng.exponential(size=100)) for _ in range(200)]
    assert 0.9 <= np.mean([one.low <= 1 <= one.high for one in found]) <= 0.98


def test_frechet_distance_of_gaussians_is_the_closed_form():
    rng = torch.Generator().manual_seed(0)
    one = torch.randn(200_000, 3, generator=rng, dtype=torch.float64)
    other = 2 * torch.randn(200_000, 3, generator=rng, dtype=torch.float64) + torch.tensor([1.0, 0.0, -2.0])
    # |mean|^2 + tr(I + 4 I - 2 * 2 I) = 5 + 3
    assert frechet(one, other) == pytest.approx(8.0, rel=0.01)
    assert frechet(one, one) == pytest.approx(0.0, abs=1e-6)
    turned = other @ torch.linalg.qr(torch.randn(3, 3, generator=rng, dtype=torch.float64)).Q
    assert frechet(one @ torch.eye(3).double(), other) == pytest.approx(frechet(other, one))
    assert frechet(turned, turned) == pytest.approx(0.0, abs=1e-6)


def test_kernel_distance_is_unbiased_and_sees_what_the_frechet_distance_cannot():
    rng = torch.Generator().manual_seed(0)
    same = [kernel(torch.randn(40, 4, generator=rng), torch.randn(40, 4, generator=rng)) for _ in range(300)]
    assert abs(np.mean(same)) < 3 * np.std(same) / 300**0.5
    skewed = -torch.empty(2000, 4).exponential_(generator=rng) + 1  # mean 0, deviation 1, as the normal's
    normal = torch.randn(2000, 4, generator=rng)
    assert frechet(skewed, normal) < 0.05 < kernel(skewed, normal)


def test_halves_tell_sets_apart_and_say_how_surely():
    rng = torch.Generator().manual_seed(0)
    one, other = torch.randn(400, 4, generator=rng), torch.randn(400, 4, generator=rng)
    same, moved = halves(kernel, one, other), halves(kernel, one + 0.5, other)
    assert same.low < 0.05 < moved.low < moved.value < moved.high


def test_features_see_clips_of_any_size_and_length_alike_and_are_normal():
    net = shipped()
    scenes = [scene(number, "full", "held_out") for number in range(64)]
    small, large = (torch.stack([render(one, *shape) for one in scenes]) for shape in ((8, 32, 32, 8.0), (16, 64, 64, 16.0)))
    seen, seen_large = net.see(small), net.see(large)
    assert seen.square().mean() == pytest.approx(1, abs=0.2)
    assert (seen - seen_large).norm() < 0.5 * (seen - seen_large.roll(1, dims=0)).norm()
    net.normalise(small)
    again = net.see(small)
    assert again.mean(0).abs().max() < 1e-4
    assert again.square().mean() == pytest.approx(1, abs=1e-4)


def test_the_nearest_of_a_copy_is_at_no_distance():
    rows = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    assert nearest(rows[:3], rows).max() < 1e-3 < nearest(rows[:3], rows[3:]).min()
