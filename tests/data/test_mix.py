import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from noisereel.data.clips import Clip, unlabelled
from noisereel.data.mix import InTurn, Mix, blended, limited, place, prefetch


class Numbered:
    """Clips that show and say their own index."""

    def __init__(self, frames: int, fps: float, name: str = "clip") -> None:
        self.frames, self.fps, self.name = frames, fps, name

    def __getitem__(self, index: int) -> Clip:
        video = torch.full((3, self.frames, 2, 2), index % 1009 / 1009)
        return Clip(video=video, caption=f"{self.name} {index}", fps=self.fps)


class Sized(Numbered):
    def __len__(self) -> int:
        return 7


def joint(**changes: object) -> Mix:
    mix = {"video": Numbered(4, 8.0), "images": Numbered(1, 1.0, "image"), "batch": 4, "images_per_clip": 2, "seed": 3}
    return Mix(**(mix | changes))


def test_a_batch_is_a_function_of_its_step_alone() -> None:
    walked = [joint()(step) for step in range(4)]
    jumped = joint()(3)
    assert jumped.index == walked[3].index
    assert jumped.captions == walked[3].captions
    assert torch.equal(jumped.video, walked[3].video)
    assert len({i for batch in walked for i in batch.index}) == 16, "every step has clips of its own"
    assert joint(seed=4)(3).index != jumped.index


def test_ranks_share_out_the_same_batch() -> None:
    whole = joint()(5)
    for world in (2, 4):
        parts = [joint(rank=rank, world=world)(5) for rank in range(world)]
        assert sum((part.index for part in parts), ()) == whole.index
        assert [caption for part in parts for caption in part.captions] == whole.captions
        assert torch.equal(torch.cat([part.video for part in parts]), whole.video)
        assert torch.equal(parts[-1].groups, whole.groups[: 4 // world]), "a rank numbers its own rows from 0"


def test_a_groups_number_is_the_row_of_its_clip() -> None:
    batch = joint()(0)
    assert batch.video.shape == (4, 3, 6, 2, 2)
    assert len(batch.captions) == len(batch.fps) == 4 * 3
    for sample, frame in itertools.product(range(4), range(6)):
        row = int(batch.groups[sample, frame])
        index = int(batch.captions[row].split()[1])
        assert batch.video[sample, 0, frame, 0, 0] == pytest.approx(index % 1009 / 1009)
        assert batch.captions[row].startswith("clip" if frame < 4 else "image")
        assert batch.fps[row] == (8.0 if frame < 4 else 1.0)
    assert batch.index == tuple(int(batch.captions[3 * sample].split()[1]) for sample in range(4))


def test_without_a_video_source_images_are_one_frame_videos() -> None:
    batch = Mix(images=Numbered(1, 1.0), batch=3)(0)
    assert batch.video.shape == (3, 3, 1, 2, 2)
    assert batch.groups is None
    assert len(batch.captions) == 3


def test_a_sized_source_gives_each_clip_once_an_epoch_in_a_new_order() -> None:
    mix = Mix(video=Sized(1, 1.0), batch=1)
    epochs = [[mix(step).index[0] for step in range(7 * epoch, 7 * epoch + 7)] for epoch in range(3)]
    for number, epoch in enumerate(epochs):
        assert sorted(epoch) == list(range(7 * number, 7 * number + 7))
    orders = [tuple(i % 7 for i in epoch) for epoch in epochs]
    assert len(set(orders)) == 3


def test_limited_repeats_the_first_clips() -> None:
    source = limited(Numbered(1, 1.0), 3)
    assert [source[i].caption for i in range(5)] == ["clip 0", "clip 1", "clip 2", "clip 0", "clip 1"]
    assert {caption for step in range(6) for caption in Mix(video=source, batch=2)(step).captions} == {
        "clip 0",
        "clip 1",
        "clip 2",
    }


def test_blended_draws_in_proportion_and_always_alike() -> None:
    source = blended([Numbered(1, 1.0, "rare"), Numbered(1, 1.0, "common"), Numbered(1, 1.0, "never")], [1.0, 3.0, 0.0])
    names = [source[i].caption for i in range(2000)]
    assert names == [source[i].caption for i in range(2000)]
    assert sum(name.startswith("rare") for name in names) == pytest.approx(500, abs=4 * (2000 * 3 / 16) ** 0.5)
    assert not any(name.startswith("never") for name in names)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # on a machine of one core
@pytest.mark.parametrize("workers", [0, 2])
def test_prefetched_batches_are_the_same_in_the_same_order(workers: int) -> None:
    mix = joint()
    torch.manual_seed(0)
    state = torch.get_rng_state()
    batches = list(prefetch(mix, start=3, stop=8, workers=workers))
    assert [batch.index for batch in batches] == [mix(step).index for step in range(3, 8)]
    assert torch.equal(batches[-1].video, mix(7).video)
    assert torch.equal(torch.get_rng_state(), state), "training's own randomness is left alone"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"video": None, "images": None}, "needs a source"),
        ({"batch": 0}, "positive multiple"),
        ({"world": 3}, "multiple of 3"),
        ({"rank": 2, "world": 2}, "pass 0 to 1"),
        ({"images_per_clip": 0}, "pass 1 or more"),
        ({"images": None}, "pass 0"),
    ],
)
def test_mistakes_are_named(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        joint(**changes)


def test_images_of_another_size_are_refused() -> None:
    class Small(Numbered):
        def __getitem__(self, index: int) -> Clip:
            return Clip(video=torch.zeros(3, 1, 1, 2), caption=None, fps=1.0)

    with pytest.raises(ValueError, match="another size"):
        joint(images=Small(1, 1.0))(0)


def test_kinds_take_turns_and_each_goes_on_where_it_stopped() -> None:
    few, many = Mix(video=Numbered(3, 8.0), batch=1), Mix(video=Numbered(5, 8.0), batch=2)
    turns = InTurn(mixes=[few, many], times=[2, 1])
    expected = [few(0), few(1), many(0), few(2), few(3), many(1)]
    assert [turns(step).index for step in range(6)] == [batch.index for batch in expected]
    assert [turns(step).video.shape for step in range(6)] == [batch.video.shape for batch in expected]


@st.composite
def turns(draw: st.DrawFn) -> dict:
    """Kinds of data in turn: sized and endless sources, blends, several sizes, images appended or alone."""
    seed, batch = draw(st.integers(0, 2**32)), 4 * draw(st.integers(1, 3))
    sources = [Sized(3, 8.0), Numbered(3, 8.0), blended([Sized(3, 8.0), Numbered(3, 8.0)], [2.0, 1.0])]
    kinds = [
        dict(video=draw(st.sampled_from(sources))),
        dict(video=Numbered(5, 4.0)),
        dict(images=Sized(1, 1.0)),
        dict(video=draw(st.sampled_from(sources)), images=Sized(1, 1.0), images_per_clip=2),
    ]
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4))
    times = draw(st.lists(st.integers(1, 3), min_size=len(chosen), max_size=len(chosen)))
    return dict(mixes=[dict(batch=batch, seed=seed, **kind) for kind in chosen], times=times)


def of_rank(mixes: list[dict], times: list[int], rank: int = 0, world: int = 1) -> InTurn:
    return InTurn(mixes=[Mix(rank=rank, world=world, **mix) for mix in mixes], times=times)


@settings(deadline=None, max_examples=30)
@given(turns(), st.integers(0, 10_000), st.sampled_from([2, 4]))
def test_any_number_of_ranks_makes_the_same_global_batches(plan: dict, step: int, world: int) -> None:
    whole = of_rank(**plan)(step)
    parts = [of_rank(**plan, rank=rank, world=world)(step) for rank in range(world)]
    assert sum((part.index for part in parts), ()) == whole.index
    assert [caption for part in parts for caption in part.captions] == whole.captions
    assert torch.equal(torch.cat([part.video for part in parts]), whole.video)
    assert torch.equal(torch.cat([part.fps for part in parts]), whole.fps)


@settings(deadline=None, max_examples=30)
@given(turns(), st.integers(0, 1000), st.integers(1, 12), st.integers(0, 12))
def test_stopped_anywhere_it_goes_on_as_if_it_had_not(plan: dict, start: int, length: int, stop: int) -> None:
    uninterrupted = [batch.captions for batch in prefetch(of_rank(**plan), start=start, stop=start + length, workers=0)]
    stop = min(stop, length)
    before = prefetch(of_rank(**plan), start=start, stop=start + stop, workers=0)
    after = prefetch(of_rank(**plan), start=start + stop, stop=start + length, workers=0)
    assert [batch.captions for batch in [*before, *after]] == uninterrupted


@settings(deadline=None, max_examples=30)
@given(turns())
def test_an_epoch_of_a_sized_source_is_each_clip_once_whatever_takes_turns_with_it(plan: dict) -> None:
    plan = dict(
        mixes=[dict(plan["mixes"][0], video=Sized(3, 8.0), images=None, images_per_clip=0), *plan["mixes"]],
        times=[2] + plan["times"],
    )
    batch, rounds = plan["mixes"][0]["batch"], 7
    seen = [
        index
        for step in range(rounds * sum(plan["times"]))
        if step % sum(plan["times"]) < 2
        for index in of_rank(**plan)(step).index
    ]
    assert sorted(seen) == list(range(2 * rounds * batch)), "seven clips: every multiple of seven is whole epochs"


def test_turns_need_a_number_for_each_kind() -> None:
    with pytest.raises(ValueError, match=r"1 mixes taken \[0\] times"):
        InTurn(mixes=[Mix(video=Numbered(3, 8.0), batch=1)], times=[0])


def test_a_mix_without_captions_refuses_those_that_slip_in() -> None:
    mix = Mix(video=Numbered(4, 8.0), batch=2, captions=False)
    with pytest.raises(ValueError, match=r"of clips without captions, and one of .* has one"):
        mix(0)
    with pytest.raises(ValueError, match="without captions"):
        joint(video=unlabelled(Numbered(4, 8.0)), captions=False)(0)  # the images' captions
    withheld = joint(video=unlabelled(Numbered(4, 8.0)), images=unlabelled(Sized(1, 1.0)), captions=False)
    assert withheld(0).captions == [None] * 12
    assert torch.equal(withheld(0).video, joint(images=Sized(1, 1.0))(0).video)
    assert len(unlabelled(Sized(4, 8.0))) == 7
    assert place(unlabelled(Numbered(4, 8.0)), 5, 0) == place(Numbered(4, 8.0), 5, 0)
