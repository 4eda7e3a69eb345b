"""What a stage is given means the same in training and in sampling; captions are dropped by their own sample's coin."""

from dataclasses import replace

import pytest
import torch

from noisereel.codecs.pixels import Pixels
from noisereel.conditioning import KnownFrames, LowRes, drop_captions, either, every, first, resize, some_first
from noisereel.diffusion.schedules import Rectified
from noisereel.types import Rng, Video, generators

SIZE = (6, 16, 16)


def clip(count: int = 2, seed: int = 0) -> Video:
    return torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def rng(*indices: int) -> Rng:
    return generators(7, indices)


@pytest.mark.parametrize(("time", "space"), [(1, 2), (2, 1), (3, 4), (4, 2)])
def test_training_and_sampling_hints_agree_where_the_stage_before_was_perfect(time: int, space: int) -> None:
    given = LowRes(size=SIZE, time=time, space=space, schedule=Rectified())
    video = clip()
    before = resize(video[:, :, ::time], SIZE[1] // space, SIZE[2] // space)
    trained = given.from_clip(video, rng(0, 1))
    sampled = given.from_previous(before, rng(0, 1))
    assert trained.channels.shape == video.shape
    assert torch.equal(trained.channels, sampled.channels)
    assert torch.equal(trained.noise, torch.zeros(2))


def test_frames_are_repeated_until_the_next_known_one() -> None:
    hint = LowRes(size=SIZE, time=4, schedule=Rectified()).from_clip(clip(), rng(0, 1))
    assert torch.equal(hint.channels, clip()[:, :, [0, 0, 0, 0, 4, 4]])


def test_blank_frames_stand_where_no_frame_is_known() -> None:
    given = LowRes(size=SIZE, time=2, blank=True, schedule=Rectified())
    hint = given.from_clip(clip(), rng(0, 1)).channels
    assert torch.equal(hint[:, :, ::2], clip()[:, :, ::2])
    assert hint[:, :, 1::2].abs().max() == 0
    assert torch.equal(given.from_previous(clip()[:, :, ::2], rng(0, 1)).channels, hint)


@pytest.mark.parametrize("blank", [False, True])
def test_clips_of_one_sample_lack_frames_of_their_own(blank: bool) -> None:
    # Three frames of a video and three images of their own: of an image nothing is lacking.
    given = LowRes(size=SIZE, time=2, space=2, blank=blank, noise=0.3)
    groups = torch.tensor([[0, 0, 0, 1, 2, 3], [4, 4, 4, 5, 6, 7]])
    together = given.from_clip(clip(), rng(0, 1), groups)
    silent = replace(given, noise=0.0)
    hint, images = silent.from_clip(clip(), rng(0, 1), groups).channels, resize(resize(clip()[:, :, 3:], 8, 8), 16, 16)
    torch.testing.assert_close(hint[:, :, 3:], images)
    torch.testing.assert_close(hint[:, :, :3], silent.from_clip(clip()[:, :, :3], rng(0, 1)).channels)
    assert torch.equal(together.noise, given.from_clip(clip(), rng(0, 1)).noise), "one level for all of a sample"


def test_the_level_can_be_told_as_log_snr() -> None:
    given = LowRes(size=SIZE, sample_noise=0.3, tells="log_snr")
    told = given.from_previous(clip(), rng(0, 1)).noise
    torch.testing.assert_close(told, (20 - given.schedule(torch.tensor([0.3, 0.3])).log_snr) / 40)
    assert torch.equal(replace(given, sample_noise=0.0).from_previous(clip(), rng(0, 1)).noise, torch.zeros(2))


def test_a_constant_video_survives_shrinking_and_enlarging() -> None:
    hint = LowRes(size=SIZE, time=2, space=4, schedule=Rectified()).from_clip(torch.full((1, 3, *SIZE), 0.25), rng(0))
    assert torch.allclose(hint.channels, torch.tensor(0.25))


def test_the_level_that_is_told_is_the_level_that_was_added() -> None:
    given = LowRes(size=SIZE, noise=0.8, schedule=Rectified())
    zeros = torch.zeros(64, 3, *SIZE)
    hint = given.from_clip(zeros, rng(*range(64)))
    assert hint.noise.min() >= 0
    assert hint.noise.max() <= 0.8
    assert hint.noise.std() > 0.15  # uniform up to 0.8: 0.23
    # Rectified: sigma is the time itself. 4,608 numbers a sample put its standard deviation within 5 % of the truth.
    assert torch.allclose(hint.channels.flatten(1).std(1), hint.noise, rtol=0.05, atol=1e-3)


def test_augmentation_follows_its_schedule() -> None:
    level = torch.full((8,), 0.6)
    given = LowRes(size=SIZE, sample_noise=0.6)
    hint = given.from_previous(torch.ones(8, 3, *SIZE), rng(*range(8)))
    signal = given.schedule(level)
    assert torch.equal(hint.noise, level)
    assert torch.allclose(hint.channels.mean(), signal.alpha[0], atol=0.02)
    assert torch.allclose(hint.channels.std(), signal.sigma[0], atol=0.02)


def test_augmentation_belongs_to_the_sample_not_to_the_batch() -> None:
    given = LowRes(size=SIZE, space=2, noise=0.5)
    together = given.from_clip(clip(3), rng(0, 1, 2))
    alone = given.from_clip(clip(3)[1:2], rng(1))
    assert torch.equal(together.channels[1:2], alone.channels)
    assert torch.equal(together.noise[1:2], alone.noise)


def test_bad_factors_and_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="space=0"):
        LowRes(size=SIZE, space=0)
    with pytest.raises(ValueError, match="multiples of 3"):
        LowRes(size=SIZE, space=3).from_clip(clip(), rng(0, 1))


@pytest.mark.parametrize(
    ("given", "known"),
    [
        (KnownFrames(which=first(2)), [True, True, False, False, False, False]),
        (KnownFrames(which=every(3)), [True, False, False, True, False, False]),
    ],
)
def test_known_frames_are_kept_the_others_hidden_and_the_mask_tells(given: KnownFrames, known: list[bool]) -> None:
    video, mask = clip(), torch.tensor(known)
    channels = given.from_clip(video, rng(0, 1)).channels
    assert channels.shape[1] == given.channels == 4
    assert torch.equal(channels[:, :3, mask], video[:, :, mask])
    assert channels[:, :3, ~mask].abs().max() == 0
    assert torch.equal(channels[:, 3], mask[None, :, None, None].expand(2, *SIZE).float())


def test_what_hidden_frames_hold_cannot_matter() -> None:
    given = KnownFrames(which=first(2))
    other = torch.cat([clip()[:, :, :2], clip(seed=1)[:, :, 2:]], dim=2)
    hint = given.from_clip(clip(), rng(0, 1))
    assert torch.equal(hint.channels, given.from_known(other, torch.arange(6) < 2, rng(0, 1)).channels)


def test_each_sample_draws_how_many_frames_are_known() -> None:
    given = KnownFrames(which=first(0, 1, 2))
    mask = given.from_clip(clip(300), rng(*range(300))).channels[:, 3, :, 0, 0]
    counts = mask.sum(1)
    assert torch.equal(mask, (torch.arange(6) < counts[:, None]).float())
    assert all(70 <= int((counts == count).sum()) <= 130 for count in (0, 1, 2))
    alone = given.from_clip(clip(1), rng(17)).channels[:, 3, :, 0, 0]
    assert torch.equal(alone[0], mask[17])


def test_known_frames_are_noised_to_the_level_that_is_told() -> None:
    given = KnownFrames(which=first(3), noise=0.8, sample_noise=0.3, schedule=Rectified())
    zeros = torch.zeros(64, 3, *SIZE)
    hint = given.from_clip(zeros, rng(*range(64)))
    torch.testing.assert_close(hint.channels[:, :3, :3].flatten(1).std(1), hint.noise, rtol=0.07, atol=1e-3)
    assert hint.channels[:, :3, 3:].abs().max() == 0
    assert torch.equal(hint.channels[:, 3, :3], torch.ones(64, 3, *SIZE[1:]))
    sampled = given.from_known(zeros, torch.arange(6) == 4, rng(*range(64)))
    assert torch.equal(sampled.noise, torch.full((64,), 0.3))
    assert abs(float(sampled.channels[:, :3, 4].std()) - 0.3) < 0.01


@pytest.mark.parametrize("frames", [1, 2, 8, 29])
def test_the_frames_before_lie_spaced_on_the_axis_of_the_stage(frames: int) -> None:
    given, before = KnownFrames(which=every(4), spacing=4), torch.rand(1, 3, frames, 2, 2)
    known = given.spread(before)
    assert known.video.shape[2] == 4 * (frames - 1) + 1
    assert torch.equal(known.frames, every(4)(known.video.shape[2], rng(0))[0])
    assert torch.equal(known.video[:, :, ::4], before)


def test_a_smaller_video_comes_in_the_latents_of_the_stage() -> None:
    codec = Pixels(patch=4)
    given, plain = (LowRes(size=SIZE, space=2, noise=0.5, codec=own) for own in (codec, None))
    assert given.channels == codec.channels
    quiet, loud = given.from_clip(clip(), rng(0, 1)), plain.from_clip(clip(), rng(0, 1))
    assert quiet.channels.shape == codec.encode(clip()).shape
    assert torch.equal(quiet.noise, loud.noise)
    silent = [replace(one, noise=0.0).from_clip(clip(), rng(0, 1)).channels for one in (given, plain)]
    assert torch.equal(silent[0], codec.encode(silent[1]))


def test_captions_are_dropped_at_the_rate() -> None:
    kept = drop_captions([f"{n}" for n in range(4000)], None, 0.1, rng(*range(4000)))
    assert 340 <= kept.count(None) <= 460  # 400, three standard deviations either way
    assert all(caption is None or caption == str(n) for n, caption in enumerate(kept))


@pytest.mark.parametrize(("rate", "left"), [(0.0, ["a", None, "b"]), (1.0, [None, None, None])])
def test_the_rates_at_the_ends_are_exact(rate: float, left: list[str | None]) -> None:
    assert drop_captions(["a", None, "b"], None, rate, rng(0, 1, 2)) == left


def test_a_captions_coin_is_thrown_by_its_own_sample() -> None:
    # Two samples of a video and two images each: clips 0-2 belong to the first, 3-5 to the second.
    groups = torch.tensor([[0, 0, 1, 2], [3, 3, 4, 5]])
    for seed in range(20):
        pair = generators(seed, [0, 1])
        together = drop_captions(list("abcdef"), groups, 0.5, pair)
        alone = drop_captions(list("def"), groups[1:] - 3, 0.5, generators(seed, [1]))
        assert together[3:] == alone


def test_clips_of_one_sample_have_coins_of_their_own() -> None:
    groups = torch.tensor([[0, 1, 2, 3]])
    outcomes = {tuple(drop_captions(list("abcd"), groups, 0.5, generators(seed, [0]))) for seed in range(200)}
    assert len(outcomes) == 16


def test_of_several_spacings_each_sample_draws_its_own() -> None:
    known = every(2, 3, 5)(16, rng(*range(60)))
    patterns = {tuple(row.nonzero().flatten().tolist()) for row in known}
    assert patterns == {tuple(range(0, 16, stride)) for stride in (2, 3, 5)}
    assert torch.equal(every(5)(16, rng(0, 1)), (torch.arange(16) % 5 == 0).expand(2, -1))


def test_each_sample_draws_one_way_of_being_given_frames() -> None:
    known = either(every(5), first(1))(6, rng(*range(60)))
    assert {tuple(row.nonzero().flatten().tolist()) for row in known} == {(0, 5), (0,)}
    assert 15 < int(known[:, 5].sum()) < 45
    alone = torch.cat([either(every(5), first(1))(6, rng(index)) for index in range(60)])
    assert torch.equal(alone, known)


def test_what_a_video_becomes_is_as_long_as_the_stage_where_it_can_be() -> None:
    given = LowRes(size=(7, 16, 16), time=2, space=4)
    sizes = [given.enlarged(torch.zeros(1, 3, *shape)) for shape in ((4, 4, 4), (3, 4, 4), (8, 2, 4))]
    assert sizes == [(7, 16, 16), (6, 16, 16), (16, 8, 16)]


def test_first_frames_that_are_known_are_one_to_the_most_that_is_asked_for():
    rng = generators(0, range(2000))
    counts = some_first(8, None, 0.5, rng).sum(1)
    assert counts.min() == 0
    assert sorted(set(counts[counts > 0].tolist())) == list(range(1, 8))
    assert (counts > 0).float().mean() == pytest.approx(0.5, abs=0.05)
    assert some_first(8, None, 1.0, generators(0, range(200)), most=1).sum(1).tolist() == [1] * 200
    known = some_first(8, None, 1.0, generators(0, range(200)), most=3)
    assert sorted(set(known.sum(1).tolist())) == [1, 2, 3]
    assert known[:, 0].all()  # the first, not any
