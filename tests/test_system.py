"""Stages in a row: what is passed on, what is yielded, how a video grows."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from einops import reduce
from torch import Tensor, nn

from noisereel.codecs.pixels import Pixels
from noisereel.conditioning import LowRes
from noisereel.diffusion.guidance import cfg
from noisereel.diffusion.process import Diffusion
from noisereel.diffusion.schedules import Cosine
from noisereel.stage import Stage
from noisereel.system import DecodingError, System
from noisereel.types import Cond, Latent, Rng, Text, Time, Video, generators, randn

SHAPE = (4, 8, 8)
SQUEEZED = (9, 8, 8)
LARGE = (8, 16, 16)


class Net(nn.Module):
    def __init__(self, formula: Callable[[Video, Cond], Tensor]) -> None:
        super().__init__()
        self.formula = formula
        self.blocks = nn.ModuleList()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, x: Video, t: Time, cond: Cond) -> Video:
        return self.formula(x, cond).expand_as(x) + self.weight

    def temporal_parameters(self) -> list[nn.Parameter]:
        return []


class Lengths:
    dim = 1
    pooled_dim = 1

    def __call__(self, prompts: list[str | None]) -> Text:
        pooled = torch.tensor([[len(prompt or "") / 10] for prompt in prompts])
        return Text(tokens=pooled[:, None], mask=torch.ones(len(pooled), 1, dtype=torch.bool), pooled=pooled)


class Squeezed:
    """A codec that compresses time as a causal one does: the first frame alone, then the mean of every four."""

    channels = 3
    stride = (4, 1, 1)
    lead = 1

    def encode(self, video: Video) -> Latent:
        later = reduce(video[:, :, 1:], "b c (t four) h w -> b c t h w", "mean", four=4)
        return torch.cat([video[:, :, :1], later], dim=2)

    def decode(self, latent: Latent) -> Video:
        return torch.cat([latent[:, :, :1], latent[:, :, 1:].repeat_interleave(4, dim=2)], dim=2)


class Learned(nn.Module):
    """A codec with weights."""

    channels = 3
    stride = (1, 1, 1)
    lead = 0

    def encode(self, video: Video) -> Latent:
        return video

    def decode(self, latent: Latent) -> Video:
        return latent


def caption_length(x: Video, cond: Cond) -> Tensor:
    return cond.text.pooled[:, :, None, None, None]


def mean(x: Video, cond: Cond) -> Tensor:
    return x.mean((1, 2, 3, 4), keepdim=True)


def stage(formula: Callable[[Video, Cond], Tensor], shape: tuple[int, int, int] = SHAPE, given: LowRes | None = None) -> Stage:
    diffusion = Diffusion(schedule=Cosine(), predicts="x0")
    return Stage(
        net=Net(formula), diffusion=diffusion, codec=Pixels(), text=Lengths(), shape=shape, fps=8.0, given=given, steps=4
    )


def cascade() -> System:
    given = LowRes(size=LARGE, time=2, space=2)
    enlarge = stage(lambda x, cond: cond.hint.channels, LARGE, given)
    return System(stages={"base": stage(caption_length), "super": enlarge})


def rng(*indices: int) -> Rng:
    return generators(5, indices)


def test_each_stage_works_on_the_video_of_the_one_before() -> None:
    moments = list(cascade().sample(["abc", "abcdef"], rng(0, 1)))
    final = moments[-1].video
    assert final.shape == (2, 3, *LARGE)
    assert torch.allclose(final.mean((1, 2, 3, 4)), torch.tensor([0.3, 0.6]), atol=1e-3)


def test_moments_name_their_stage_and_only_a_last_step_has_the_video() -> None:
    moments = list(cascade().sample(["abc"], rng(0)))
    assert [(m.stage, m.number, m.step.index) for m in moments] == [("base", 0, i) for i in range(4)] + [
        ("super", 1, i) for i in range(4)
    ]
    assert {m.stages for m in moments} == {2}
    assert [m.video is not None for m in moments] == [False, False, False, True] * 2


def test_one_stage_is_a_cascade_of_one() -> None:
    single = stage(mean)
    *_, last = System(stages={"base": single}).sample(["abc"], rng(0))
    assert torch.equal(last.video, single.preview(["abc"], rng(0)))


def test_negative_prompts_reach_every_stage_and_the_shape_only_the_first() -> None:
    tall = stage(lambda x, cond: caption_length(x, cond) + 0 * cond.hint.channels, LARGE, LowRes(size=LARGE, time=2, space=2))
    system = System(stages={"base": stage(caption_length), "super": tall}).with_options(guide=cfg(2.0))
    *_, last = system.sample(["abcd"], rng(0), negative=["ab"], shape=SHAPE)
    assert last.video.shape[2:] == LARGE
    assert torch.allclose(last.video, torch.tensor(0.2 + 2 * (0.4 - 0.2)), atol=1e-5)


def test_options_make_a_new_system_of_the_same_weights() -> None:
    system = cascade()
    quick = system.with_options(steps=2)
    assert [stage.steps for stage in quick.stages.values()] == [2, 2]
    assert [stage.steps for stage in system.stages.values()] == [4, 4]
    assert quick.first.net is system.first.net
    assert quick.last is quick.stages["super"]


def test_parts_are_named_for_their_stage_where_there_are_several() -> None:
    system = cascade()
    assert set(System(stages={"base": system.first}).parts()) == {"unet"}
    assert system.parts() == {"base_unet": system.first.net, "super_unet": system.last.net}


def test_what_stages_share_is_one_part() -> None:
    first = cascade().first
    again = replace(first, steps=2)
    assert System(stages={"base": first, "again": again}).parts() == {"unet": first.net}
    other = cascade().last
    parts = System(stages={"base": first, "super": other, "more": other}).parts()
    assert parts == {"base_unet": first.net, "super_unet": other.net}
    coded = [replace(one, codec=Learned()) for one in (first, other)]
    both = System(stages={"base": coded[0], "super": replace(coded[1], codec=coded[0].codec)}).parts()
    assert list(both) == ["base_unet", "vae", "super_unet"]


@pytest.mark.parametrize(("frames", "keep"), [(10, 2), (9, 3), (5, 1)])
def test_extending_keeps_the_video_and_reaches_the_length(frames: int, keep: int) -> None:
    system = System(stages={"base": stage(mean)})
    start = torch.rand(1, 3, *SHAPE, generator=torch.Generator().manual_seed(0))
    moments = list(system.extend(start, ["abc"], rng(0), frames=frames, keep=keep))
    whole = moments[-1].video
    assert whole.shape == (1, 3, frames, *SHAPE[1:])
    assert torch.equal(whole[:, :, : SHAPE[0]], start)
    lengths = [moment.video.shape[2] for moment in moments if moment.video is not None]
    assert all(after - before == SHAPE[0] - keep for before, after in pairwise([SHAPE[0], *lengths[:-1]]))


def test_a_cascade_goes_on_in_its_first_stage() -> None:
    system = cascade()
    for refused in (
        system.extend(torch.zeros(1, 3, *LARGE), ["a"], rng(0), frames=9, keep=1),
        system.between(torch.zeros(1, 3, *LARGE), ["a"], rng(0), every=2),
    ):
        with pytest.raises(ValueError, match="a model of 2 stages cannot"):
            next(refused)
    given = torch.rand(1, 3, *SHAPE, generator=torch.Generator().manual_seed(0))
    moments = list(system.sample(["abc"], rng(0), video=given))
    assert {(moment.stage, moment.number, moment.stages) for moment in moments} == {("super", 1, 2)}
    assert moments[-1].video.shape[2:] == LARGE
    enlarged = system.last.given.from_previous(given, rng(0)).channels
    torch.testing.assert_close(moments[-1].video, enlarged, rtol=0, atol=1e-3)


def test_what_is_known_shapes_what_is_added() -> None:
    system = System(stages={"base": stage(mean)}).with_options(steps=32, reconstruction=4.0)
    start = torch.full((1, 3, *SHAPE), 0.8)
    *_, last = system.extend(start, ["abc"], rng(0), frames=6, keep=2)
    *_, free = system.sample(["abc"], rng(0))
    assert (last.video[:, :, 4:] - 0.8).abs().mean() < (free.video - 0.8).abs().mean() / 2


@pytest.mark.parametrize("keep", [0, 4, -1])
def test_extension_must_keep_some_frames_but_not_all(keep: int) -> None:
    system = System(stages={"base": stage(mean)})
    with pytest.raises(ValueError, match="between 1 and 3"):
        next(system.extend(torch.zeros(1, 3, *SHAPE), ["abc"], rng(0), frames=8, keep=keep))


def test_a_video_of_another_size_keeps_its_size() -> None:
    system = System(stages={"base": stage(mean)})
    *_, last = system.extend(torch.zeros(1, 3, 4, 16, 12), ["abc"], rng(0), frames=6, keep=1)
    assert last.video.shape == (1, 3, 6, 16, 12)


@pytest.mark.parametrize(("given", "every", "length"), [(2, 2, 3), (2, 3, 4), (5, 2, 9), (4, 3, 10)])
def test_filling_between_keeps_every_given_frame(given: int, every: int, length: int) -> None:
    system = System(stages={"base": stage(mean)})
    start = torch.rand(1, 3, given, *SHAPE[1:], generator=torch.Generator().manual_seed(0))
    *_, last = system.between(start, ["abc"], rng(0), every=every)
    assert last.video.shape[2] == length
    assert torch.equal(last.video[:, :, ::every], start)


@pytest.mark.parametrize(("given", "every"), [(1, 2), (3, 1), (3, 0), (3, 4)])
def test_filling_between_needs_two_frames_and_room(given: int, every: int) -> None:
    system = System(stages={"base": stage(mean)})
    with pytest.raises(ValueError, match="give 2 frames or more, and 1 to 2"):
        next(system.between(torch.zeros(1, 3, given, *SHAPE[1:]), ["abc"], rng(0), every=every))


# Codecs that compress time


def squeezed() -> System:
    return System(stages={"base": replace(stage(mean, SQUEEZED), codec=Squeezed())})


@pytest.mark.parametrize(("keep", "held"), [(1, 1), (5, 2)])
def test_extension_holds_whole_latent_frames(keep: int, held: int) -> None:
    start = torch.rand(1, 3, *SQUEEZED, generator=torch.Generator().manual_seed(0))
    (last,) = (m for m in squeezed().extend(start, ["abc"], rng(0), frames=12, keep=keep) if m.video is not None)
    assert last.video.shape[2] == 12
    assert torch.equal(last.video[:, :, :9], start)
    known = torch.cat([start[:, :, -keep:], start.new_zeros(1, 3, 9 - keep, 8, 8)], dim=2)
    torch.testing.assert_close(last.step.x[:, :, :held], Squeezed().encode(known)[:, :, :held])
    torch.testing.assert_close(last.video[:, :, 9:], Squeezed().decode(last.step.x)[:, :, keep : keep + 3].clamp(-1, 1))


@pytest.mark.parametrize(("keep", "near"), [(2, "1 or 5"), (4, "1 or 5"), (6, "5 or 9"), (8, "5 or 9")])
def test_a_latent_frame_is_known_as_a_whole_or_not_at_all(keep: int, near: str) -> None:
    with pytest.raises(ValueError, match=f"go on from {keep} frames: it takes 1 and a multiple of 4, such as {near}"):
        next(squeezed().extend(torch.zeros(1, 3, *SQUEEZED), ["abc"], rng(0), frames=12, keep=keep))


def test_single_frames_inside_latent_ones_cannot_be_known() -> None:
    with pytest.raises(ValueError, match="holds 4 frames in each of its latents"):
        next(squeezed().between(torch.zeros(1, 3, 2, 8, 8), ["abc"], rng(0), every=4))


# Decoding that fails


class Stubborn(Pixels):
    def decode(self, latent: Latent) -> Video:
        raise RuntimeError("no")


def test_what_was_sampled_comes_with_the_error() -> None:
    last = replace(cascade().last, codec=Stubborn())
    system = System(stages={"base": cascade().first, "super": last})
    with pytest.raises(DecodingError, match="super") as caught:
        list(system.sample(["abc"], rng(0)))
    assert caught.value.stage == "super"
    assert caught.value.latent.shape == (1, 3, *LARGE)
    assert str(caught.value.__cause__) == "no"


def test_what_is_not_finite_is_refused_before_decoding() -> None:
    broken = replace(stage(lambda x, cond: x * torch.nan), codec=Stubborn())
    with pytest.raises(ValueError, match="not finite"):
        list(System(stages={"base": broken}).sample(["abc"], rng(0)))


def test_stages_that_share_a_text_encoder_are_told_the_same() -> None:
    class Draws(Lengths):
        def from_clips(self, video: Video, groups: Tensor | None, rng: Rng) -> Text:
            raise AssertionError("there is no clip in sampling")

        def from_prompts(self, prompts: list[str | None], rng: Rng) -> Text:
            text = self(prompts)
            return replace(text, pooled=text.pooled + 0.2 * randn(rng, 1))

    shared = Draws()
    given = LowRes(size=LARGE, time=2, space=2)
    small, large = stage(caption_length), stage(caption_length, LARGE, given)
    system = System(stages={"base": replace(small, text=shared), "super": replace(large, text=shared)})
    first, last = [moment.video for moment in system.sample(["abc", "a"], rng(0, 1)) if moment.video is not None]
    assert torch.allclose(first.mean((1, 2, 3, 4)), last.mean((1, 2, 3, 4)), atol=1e-5)
    apart = System(stages={"base": replace(small, text=Draws()), "super": replace(large, text=Draws())})
    first, last = [moment.video for moment in apart.sample(["abc", "a"], rng(0, 1)) if moment.video is not None]
    assert not torch.allclose(first.mean((1, 2, 3, 4)), last.mean((1, 2, 3, 4)), atol=1e-2)


def test_a_video_of_another_size_goes_through_every_stage() -> None:
    system = cascade()
    for shape in ((2, 8, 8), (4, 4, 8), (1, 8, 8)):
        *_, last = system.sample(["abc"], rng(0), shape=shape)
        assert last.video.shape[2:] == (2 * shape[0], 2 * shape[1], 2 * shape[2])
        assert torch.allclose(last.video, torch.tensor(0.3), atol=1e-3)
