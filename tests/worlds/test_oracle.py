from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from noisereel.worlds.motions import LAWS
from noisereel.worlds.oracle import judge, read, score, wilson
from noisereel.worlds.shapes import Part, Scene, render, scene

# Played backwards these are motions of the same kind.
REVERSIBLE = {"still", "sways"}
SIZES: dict[Part, tuple[int, int]] = {"small": (8, 32), "full": (16, 64)}


def clips(part: Part, count: int, split: str = "train") -> list[tuple[torch.Tensor, Scene]]:
    frames, size = SIZES[part]
    scenes = [scene(index, part, split) for index in range(count)]
    return [(render(truth, frames, size, size, float(frames)), truth) for truth in scenes]


def motions_read(part: Part, count: int, change: Callable[[torch.Tensor], torch.Tensor]) -> list[tuple[str | None, str]]:
    frames, _ = SIZES[part]
    return [(read(change(video), float(frames), part).motion, truth.motion) for video, truth in clips(part, count)]


@pytest.mark.parametrize(("part", "split"), [("small", "held_out"), ("full", "train")])
def test_true_clips_are_read_right(part, split):
    frames, _ = SIZES[part]
    shown = clips(part, 40, split)
    rates = score([video for video, _ in shown], [truth for _, truth in shown], float(frames), part)
    assert rates["all"].rate == 1


def test_the_trajectory_is_the_truth_to_a_fifth_of_a_pixel():
    for video, truth in clips("full", 30):
        expected = truth.state(np.arange(16) / 16)
        assert np.abs(read(video, 16.0).trajectory - expected).max() < 0.2 / 64


@pytest.mark.parametrize("law", LAWS)
def test_every_law_is_told_from_all_others_at_the_small_size(law):
    found = [truth for truth in (scene(index, "full", "train") for index in range(400)) if truth.motion == law][:6]
    for truth in found:
        assert read(render(truth, 8, 32, 32, 8.0), 8.0, "full").motion == law


def test_readings_survive_noise():
    noise = torch.Generator().manual_seed(0)
    for video, truth in clips("small", 40):
        dirty = (video + 0.1 * torch.randn(video.shape, generator=noise)).clamp(-1, 1)
        assert judge(read(dirty, 8.0, "small"), truth)["all"]


@pytest.mark.parametrize("part", ["small", "full"])
def test_backwards_only_what_is_the_same_backwards_passes(part):
    for motion, truth in motions_read(part, 40, lambda video: video.flip(1)):
        assert (motion == truth) == (truth in REVERSIBLE)


def test_backwards_is_read_as_the_opposite():
    for motion, truth in motions_read("small", 60, lambda video: video.flip(1)):
        opposite = {"left": "right", "right": "left", "up": "down", "down": "up", "grows": "shrinks", "still": "still"}
        assert motion == opposite[truth]


@pytest.mark.parametrize("part", ["small", "full"])
def test_frozen_clips_stand_still(part):
    assert all(motion == "still" for motion, _ in motions_read(part, 40, lambda video: video[:, :1].expand_as(video)))


@pytest.mark.parametrize("part", ["small", "full"])
def test_shuffled_frames_obey_no_law(part):
    frames, _ = SIZES[part]
    order = torch.randperm(frames, generator=torch.Generator().manual_seed(1))
    for motion, truth in motions_read(part, 40, lambda video: video[:, order]):
        assert motion == ("still" if truth == "still" else None)


def test_captions_of_other_clips_fail():
    shown = clips("small", 60)
    scenes = [truth for _, truth in shown]
    rates = score([video for video, _ in shown], scenes[1:] + scenes[:1], 8.0, "small")
    assert rates["all"].rate <= 0.05
    assert rates["shape"].rate < 0.5


@pytest.mark.parametrize("frame", [0, 4, 7])
def test_an_object_missing_in_one_frame_fails(frame):
    for video, truth in clips("small", 10):
        gone = video.clone()
        gone[:, frame] = gone[:, 0, :1, :1]
        verdict = judge(read(gone, 8.0, "small"), truth)
        assert not any(verdict[name] for name in ("shape", "colour", "size", "motion", "all"))


def test_an_object_that_changes_colour_or_shape_on_the_way_fails():
    for index in range(10):
        truth = replace(scene(index, "small", "train"), shape="circle", colour="red", ground="black")
        before = render(truth, 8, 32, 32, 8.0)
        for after, attribute in ((replace(truth, colour="blue"), "colour"), (replace(truth, shape="ring"), "shape")):
            video = torch.cat([before[:, :4], render(after, 8, 32, 32, 8.0)[:, 4:]], dim=1)
            assert not judge(read(video, 8.0, "small"), truth)[attribute]


def test_a_second_object_fails():
    truth = replace(scene(0, "small", "train"), motion="still", coefficients=(), start=(0.25, 0.25, 0.13), ground="black")
    other = replace(truth, start=(0.75, 0.75, 0.13))
    both = torch.maximum(render(truth, 8, 32, 32, 8.0), render(other, 8, 32, 32, 8.0))
    assert judge(read(render(truth, 8, 32, 32, 8.0), 8.0, "small"), truth)["all"]
    assert read(both, 8.0, "small").shape is None


def test_motion_that_follows_no_law_is_refused():
    """Halfway to the right and back is none of the laws, though its first half is one."""
    truth = replace(scene(0, "small", "train"), motion="right", coefficients=(0.4,), start=(0.3, 0.5, 0.13), shape="circle")
    video = render(truth, 8, 32, 32, 8.0)
    there_and_back = video[:, [0, 2, 4, 6, 6, 4, 2, 0]]
    assert read(video, 8.0, "small").motion == "right"
    assert read(there_and_back, 8.0, "small").motion is None


def test_falling_is_not_moving_down_nor_drifting_moving():
    down = replace(scene(0, "small", "train"), motion="down", coefficients=(0.4,), start=(0.5, 0.3, 0.13), shape="circle")
    fall = replace(down, motion="falls")
    creep = replace(down, coefficients=(0.1,))
    askew = replace(down, motion="down left", coefficients=(0.4,), start=(0.7, 0.3, 0.13))
    assert read(render(fall, 8, 32, 32, 8.0), 8.0, "small").motion == "falls"
    assert read(render(askew, 8, 32, 32, 8.0), 8.0, "small").motion == "down left"
    assert read(render(creep, 8, 32, 32, 8.0), 8.0, "small").motion is None


def test_an_empty_picture_and_noise_show_nothing():
    blank = read(torch.full((3, 8, 32, 32), 0.004), 8.0, "small")
    assert (blank.ground, blank.shape, blank.trajectory) == ("grey", None, None)
    noise = torch.randn(3, 8, 32, 32, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    assert read(noise, 8.0, "small").shape is None
    assert read(noise, 8.0, "small").motion is None


def test_a_clip_of_nan_shows_nothing_and_too_small_a_clip_is_refused():
    broken = read(torch.full((3, 8, 32, 32), torch.nan), 8.0, "small")
    assert (broken.ground, broken.shape, broken.colour, broken.size, broken.motion) == (None,) * 5
    for shape in ((3, 3, 32, 32), (3, 8, 16, 32)):
        with pytest.raises(ValueError, match="at least 4 frames of 24 x 24"):
            read(torch.zeros(shape), 8.0)


def test_the_wilson_interval_matches_its_table():
    rate = wilson(8, 10)
    assert (rate.low, rate.high) == pytest.approx((0.4902, 0.9433), abs=1e-3)
    assert wilson(10, 10).high == 1
    assert wilson(0, 10).low == 0
