"""Measures of motion, colour and stillness: zero for what is true, and the known amount for what is off by it."""

import numpy as np
import pytest
import torch

from noisereel.evaluate.motion import MISSING, colour_drift, ground_flicker, off_course
from noisereel.worlds.motions import LAWS
from noisereel.worlds.oracle import Reading, read
from noisereel.worlds.shapes import PARTS, render, scene


def scenes_of(motion, count=4, part="full"):
    found = (scene(index, part, "held_out") for index in range(10_000))
    return [one for one, _ in zip((it for it in found if it.motion == motion), range(count), strict=False)]


def seen(path):
    return Reading(trajectory=path, residuals={}, likeness={})


@pytest.mark.parametrize("motion", PARTS["full"].motion)
def test_true_paths_are_on_course_and_frozen_ones_are_off_by_what_the_law_moves(motion):
    u = np.arange(16) / 16
    for one in scenes_of(motion):
        assert off_course(seen(one.state(u)), one, 16.0) < 0.005  # the rates of laws that turn are tried at 13 values
        still = np.repeat(one.state(u[:1]), 16, axis=1)
        least = LAWS[motion].amplitude[0] * (one.start[2] if LAWS[motion].resizes else 1)
        assert (off_course(seen(still), one, 16.0) > 0.2 * least) == (motion != "still")


def test_the_other_way_is_as_far_off_as_least_amplitude_takes_it():
    (one,) = scenes_of("right", 1)
    u = np.arange(8) / 8
    path = one.state(u)
    path[0] = path[0, 0] - 0.4 * u
    spread = np.sqrt(((u - u.mean()) ** 2).mean())
    # Nearest is the least that the law allows, 0.3 to the right; the path went 0.4 to the left.
    assert off_course(seen(path), one, 8.0) == pytest.approx((0.3 + 0.4) * spread)


def test_a_clip_without_an_object_counts_as_wrong_in_everything():
    (one,) = scenes_of("left", 1)
    nothing = read(torch.zeros(3, 8, 32, 32), 8.0)
    assert off_course(nothing, one, 8.0) == colour_drift(nothing) == MISSING


def test_colour_drift_is_the_distance_in_oklab():
    clip = render(scenes_of("still", 1)[0], 8, 32, 32, 8.0)
    assert colour_drift(read(clip, 8.0)) < 1e-3
    assert colour_drift(read(torch.cat([clip[:, :4], clip[:, 4:] * 0.8], dim=1), 8.0)) > 0.02


def test_flicker_counts_levels_of_brightness_where_nothing_moves():
    clip = render(scenes_of("right", 1)[0], 8, 32, 32, 8.0)
    assert ground_flicker(clip) == 0
    blinking = clip.clone() * 0
    blinking[:, 1::2] += 2 * 3 / 255  # three levels
    assert ground_flicker(blinking) == pytest.approx(3, rel=1e-4)
