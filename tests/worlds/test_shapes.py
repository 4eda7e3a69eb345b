from itertools import product
from math import pi

import numpy as np
import pytest
import torch

from noisereel.worlds.dice import dice
from noisereel.worlds.motions import LAWS
from noisereel.worlds.outlines import OUTLINES, coverage
from noisereel.worlds.shapes import (
    COLOURS,
    GROUNDS,
    PARTS,
    RADII,
    UNCAPTIONED_SHAPES,
    Scene,
    Shapes,
    _coefficients,
    _place,
    combinations,
    pixel,
    render,
    scene,
    spoken,
)
from noisereel.worlds.shapes_words import BRIEF, IMAGE, PROMPTS, VIDEO

MOTION_WORDS = ("mov", "slid", "goes", "going", "grow", "get", "shrink", "stay", "still", "rests", "resting", "falls", "drop")
MOTION_WORDS += ("circling", "circles", "clockwise", "sway", "swing", "bounc", "up", "down", "left", "right")


def alpha(video: torch.Tensor, truth: Scene) -> np.ndarray:
    """Coverage recovered from a render by undoing the blend of ground and colour."""
    ground, colour = pixel(GROUNDS[truth.ground]), pixel(COLOURS[truth.colour])
    channel = np.abs(colour - ground).argmax()
    return (video[channel].double().numpy() - ground[channel]) / (colour[channel] - ground[channel])


def centroids(cover: np.ndarray) -> np.ndarray:
    """Centroid of each frame in pictures."""
    size = cover.shape[-1]
    centres = (np.arange(size) + 0.5) / size
    area = cover.sum((1, 2))
    return np.stack([(cover.sum(1) * centres).sum(1) / area, (cover.sum(2) * centres).sum(1) / area])


@pytest.mark.parametrize("name", OUTLINES)
def test_coverage_adds_up_to_the_area_of_the_unit_circle_about_the_centroid(name):
    centres = np.arange(48) + 0.5
    for shift in ((0.0, 0.0), (0.3, 0.7), (0.5, 0.1)):
        x, y = centres[None, :] - 24 - shift[0], centres[:, None] - 24 - shift[1]
        cover = coverage(OUTLINES[name], x, y, 12.0)
        assert cover.sum() == pytest.approx(pi * 12**2, rel=0.01)
        assert (cover * x).sum() / cover.sum() == pytest.approx(0, abs=0.05)
        assert (cover * y).sum() / cover.sum() == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("name", OUTLINES)
def test_outlines_reach_as_far_as_they_say(name):
    outline = OUTLINES[name]
    fine = np.linspace(-2, 2, 801)
    inside = outline.distance(fine[None, :], fine[:, None]) < 0
    rows, columns = fine[inside.any(1)], fine[inside.any(0)]
    found = (-columns[0], columns[-1], -rows[0], rows[-1])
    assert found == pytest.approx((outline.side, outline.side, outline.up, outline.down), abs=0.03)


def test_a_scene_is_the_same_at_any_size():
    for index in range(40):
        truth = scene(index, "full", "train")
        small, large = (centroids(alpha(render(truth, 8, size, size, 8.0), truth)) for size in (32, 64))
        assert np.abs(small - large).max() < 0.15 / 32
        expected = truth.state(np.arange(8) / 8)[:2]
        assert np.abs(large - expected).max() < 0.1 / 32


def test_a_wider_picture_adds_ground_at_both_sides():
    truth = scene(3, "full", "train")
    square, wide = render(truth, 4, 32, 32, 4.0), render(truth, 4, 32, 48, 4.0)
    assert torch.allclose(wide[..., 8:40], square, atol=1e-5)
    assert (wide[..., :7] == wide[0:3, :1, :1, :1]).all()


def test_every_second_frame_of_twice_the_rate_is_the_clip():
    for index in range(40):
        truth = scene(index, "full", "train")
        assert torch.equal(render(truth, 16, 40, 40, 16.0)[:, ::2], render(truth, 8, 40, 40, 8.0))


def test_nothing_is_ever_cut_by_the_border():
    for index in range(300):
        truth = scene(index, "full", "train", "unlabelled_video" if index % 3 == 0 else "captioned_video")
        cover = alpha(render(truth, 9, 64, 64, 8.0), truth)  # a ninth frame: the very end of the scene
        border = np.concatenate([cover[:, 0], cover[:, -1], cover[:, :, 0], cover[:, :, -1]], axis=1)
        assert np.abs(border).max() < 0.02
        assert cover.sum((1, 2)) / 64**2 == pytest.approx(pi * truth.state(np.arange(9) / 8)[2] ** 2, rel=0.05)


@pytest.mark.parametrize("name", OUTLINES)
def test_the_largest_of_every_shape_has_room_for_every_motion(name: str):
    for motion, law in LAWS.items():
        for index in range(20):
            rng = dice(f"room {motion}", index)
            coefficients = _coefficients(law, OUTLINES[name], RADII["large"][1], rng)
            offsets = np.einsum("k,kst->st", coefficients, law.basis(np.linspace(0, 1, 33), law.rates[1]))
            place = _place(offsets, OUTLINES[name], RADII["large"][1], rng)
            path, radii = offsets[:2] + np.array(place)[:, None], RADII["large"][1] + offsets[2]
            outline = OUTLINES[name]
            for way, before, after in zip(path, (outline.side, outline.up), (outline.side, outline.down), strict=True):
                assert (way - before * radii).min() > 0
                assert (way + after * radii).max() < 1


def test_a_scene_cannot_be_shown_past_its_end():
    with pytest.raises(ValueError, match="lasts 1 s"):
        render(scene(0, "small", "train"), 16, 32, 32, 8.0)
    longer = scene(0, "small", "train", seconds=2.0)
    assert render(longer, 16, 32, 32, 8.0).shape == (3, 16, 32, 32)


def test_a_clip_depends_on_its_index_alone():
    world = Shapes(part="small", frames=8, height=32, width=32, fps=8.0)
    there = [world[index] for index in range(20)]
    back = [world[index] for index in reversed(range(20))][::-1]
    for one, other in zip(there, back, strict=True):
        assert torch.equal(one.video, other.video)
        assert one.caption == other.caption
    assert there[0].video.dtype == torch.float32
    assert there[0].video.abs().max() <= 1
    assert len({clip.video.sum().item() for clip in there}) == 20
    with pytest.raises(ValueError, match="numbered from 0"):
        world[-1]


def test_clips_do_not_depend_on_the_size_they_are_shown_at():
    small, large = Shapes(height=32, width=32)[5], Shapes(height=64, width=64)[5]
    assert small.caption == large.caption


@pytest.mark.parametrize("part", ["small", "full"])
def test_held_out_combinations_are_never_trained_on_and_show_every_value(part):
    kept, train = combinations(part, "held_out", "captioned_video"), combinations(part, "train", "captioned_video")
    assert not set(kept) & set(train)
    assert set(combinations(part, "train", "captioned_image")) == set(train)
    assert 0.11 < len(kept) / (len(kept) + len(train)) < 0.14
    words = PARTS[part]
    for position, values in enumerate((words.shape, words.colour, words.size, words.ground, words.motion)):
        for value in values:
            for chosen in (kept, train):
                share = sum(values_of[position] == value for values_of in chosen) / len(chosen)
                assert share > 0.7 / len(values)


def test_what_is_held_out_of_the_small_part_is_held_out_of_the_whole():
    assert set(combinations("small", "held_out", "captioned_video")) <= set(combinations("full", "held_out", "captioned_video"))


def test_scenes_keep_to_their_split():
    for split in ("train", "held_out"):
        allowed = set(combinations("small", split, "captioned_video"))
        scenes = [scene(index, "small", split) for index in range(100)]
        assert {(s.shape, s.colour, s.size, s.ground, s.motion) for s in scenes} <= allowed


def test_unlabelled_videos_show_things_that_captions_never_name():
    for index in range(30):
        assert Shapes(pool="unlabelled_video", height=32, width=32)[index].caption is None
        assert scene(index, "full", "train", "unlabelled_video").shape in UNCAPTIONED_SHAPES
    assert not set(UNCAPTIONED_SHAPES) & set(PARTS["full"].shape)


def test_captioned_images_are_single_frames_without_a_word_of_motion():
    world = Shapes(pool="captioned_image", height=32, width=32)
    for index in range(100):
        clip = world[index]
        assert clip.video.shape == (3, 1, 32, 32)
        assert not any(word.startswith(MOTION_WORDS) for word in clip.caption.replace(",", "").split())


def test_images_of_things_that_change_size_show_the_size_that_is_said():
    world = Shapes(pool="captioned_image", part="full", height=64, width=64)
    for index in range(200):
        truth = scene(index, "full", "train", "captioned_image")
        radius = np.sqrt(alpha(world[index].video, truth).sum() / pi) / 64
        assert radius == pytest.approx(truth.start[2], rel=0.02)


def test_every_combination_has_many_phrasings_and_unseen_ones_are_unseen():
    words = PARTS["full"]
    for index in range(30):
        values = spoken(scene(index, "full", "train"))
        seen, images = set(VIDEO.phrasings(values)), set(IMAGE.phrasings(values))
        assert len(seen) >= 8
        assert len(images) >= 5
        assert len(set(BRIEF.phrasings(values))) >= 5
        for wording in ("unseen phrasing", "unseen words"):
            unseen = set(PROMPTS[wording].phrasings(values))
            assert len(unseen) >= 5
            assert not unseen & seen
    for slot, value in product(("shape", "colour", "size", "ground"), words.shape + words.colour + words.size + words.ground):
        new = PROMPTS["unseen words"].words[slot].get(value, ())
        assert not set(new) & set(VIDEO.words[slot].get(value, (value,)))
    for motion in LAWS:
        assert not set(PROMPTS["unseen words"].words["motion"][motion]) & set(VIDEO.words["motion"][motion])


def test_training_captions_say_what_is_there_and_sometimes_less():
    world = Shapes(part="small", frames=2, height=24, width=24, fps=8.0)
    brief = 0
    for index in range(200):
        values = spoken(scene(index, "small", "train"))
        caption = world[index].caption
        brief += caption in set(BRIEF.phrasings(values))
        assert caption in set(VIDEO.phrasings(values)) | set(BRIEF.phrasings(values))
    assert 15 < brief < 55  # one in six


def test_prompts_for_evaluation_name_every_attribute():
    for caption, truth in Shapes(part="small").captions(50):
        assert caption in set(VIDEO.phrasings(spoken(truth)))
    other = Shapes(part="small").captions(50, wording="unseen phrasing")
    assert [truth for _, truth in other] == [truth for _, truth in Shapes(part="small").captions(50)]
