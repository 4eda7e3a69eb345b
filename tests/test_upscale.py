from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from noisereel.codecs.pixels import Pixels
from noisereel.conditioning import LowRes, resize
from noisereel.diffusion.process import Diffusion
from noisereel.diffusion.samplers import ddim
from noisereel.diffusion.schedules import Cosine
from noisereel.stage import Stage
from noisereel.text.silent import Silent
from noisereel.text.small import SmallTextEncoder
from noisereel.types import Cond, Times, Video
from noisereel.upscale import Enlarger, agreeing, chosen, joined, overlapping, upscale


class Formula(nn.Module):
    """A network that is a formula of the noisy video and the hint, and sees no further than a position."""

    def __init__(self, formula: Callable[[Video, Video], Tensor], multiple: int = 1) -> None:
        super().__init__()
        self.formula, self.multiple = formula, multiple
        self.blocks = nn.ModuleList()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: Video, t: Times, cond: Cond) -> Video:
        return self.formula(x, cond.hint.channels)

    def temporal_parameters(self) -> list[nn.Parameter]:
        return []


def stage(formula: Callable[[Video, Video], Tensor] = lambda x, hint: hint, multiple: int = 1, **factors: int) -> Stage:
    codec = Pixels(patch=2)
    return Stage(
        net=Formula(formula, multiple),
        diffusion=Diffusion(schedule=Cosine(), predicts="x0"),
        codec=codec,
        text=Silent(),
        shape=(8, 16, 16),
        fps=8.0,
        given=LowRes(size=(8, 16, 16), codec=codec, blend=True, **factors),
        sampler=ddim(),
        steps=1,
    )


def clip(frames: int, height: int = 7, width: int = 9) -> Video:
    return torch.rand(3, frames, height, width, generator=torch.Generator().manual_seed(frames)) * 2 - 1


def enlarged(video: Tensor, *stages: Stage, **options: int) -> Tensor:
    return torch.cat(list(upscale(video.unbind(1), stages, **options)), dim=1)


@pytest.mark.parametrize("length", [1, 2, 5, 8])
@pytest.mark.parametrize("frames", [1, 2, 4, 5, 7, 8, 9, 16, 23])
def test_windows_are_of_one_length_and_share_frames(frames: int, length: int) -> None:
    shared = length // 2
    windows = list(overlapping([torch.full((3, 1, 1), float(i)) for i in range(frames)], length, shared))
    for start, held in windows:
        assert [int(frame[0, 0, 0]) for frame in held] == list(range(start, start + min(length, frames)))
    starts = [start for start, _ in windows]
    assert starts[0] == 0
    assert starts[-1] == max(0, frames - length)
    assert all(0 < after - before <= length - shared for before, after in pairwise(starts))


@pytest.mark.parametrize("frames", [1, 3, 8, 9, 10, 14, 27, 40])
@pytest.mark.parametrize(("length", "shared", "after"), [(8, 2, 1), (8, 4, 1), (5, 1, 0), (4, 0, 0)])
def test_windows_become_a_video_in_which_each_frame_is_once(frames: int, length: int, shared: int, after: int) -> None:
    numbers = [torch.full((3, 1, 1), float(i)) for i in range(frames)]
    windows = ((start, torch.stack(held, dim=1)[None]) for start, held in overlapping(numbers, length, shared))
    pieces = list(joined(windows, shared, after))
    assert torch.cat(pieces, dim=2)[0, 0, :, 0, 0].tolist() == pytest.approx(list(range(frames)))
    assert all(piece.shape[2] for piece in pieces)


def test_a_window_fades_into_the_next_and_its_ends_are_not_believed() -> None:
    ones = torch.ones(1, 3, 8, 1, 1)
    windows = [(0, ones), (4, 2 * ones), (7, 3 * ones)]
    values = torch.cat(list(joined(windows, 4, 1)), dim=2)[0, 0].flatten().tolist()
    assert values == pytest.approx([1] * 5 + [1.25, 1.75] + [2, 2, 2.25, 2.75] + [3] * 4)


@pytest.mark.parametrize("options", [{}, {"tile": 8}, {"tile": 12, "window": 3}, {"window": 1}, {"window": 100, "tile": 100}])
@pytest.mark.parametrize(("frames", "height", "width"), [(1, 7, 9), (21, 5, 13)])
def test_tiles_and_windows_leave_no_trace_in_space(frames: int, height: int, width: int, options: dict[str, int]) -> None:
    video = clip(frames, height, width)
    wanted = agreeing(resize(video[None], 3 * height, 3 * width), video[None], 1)[0]
    got = enlarged(video, stage(space=3, multiple=2), **options)
    # What was repeated beyond the edge, to fit the network, is cut off again and left no trace either.
    assert torch.allclose(got, wanted, atol=1e-6)


@pytest.mark.parametrize("window", [3 * 2, 3 * 4, 3 * 7, 300])
@pytest.mark.parametrize("frames", [2, 4, 5, 23])
def test_frames_in_between_are_where_they_should_be_whatever_the_window(frames: int, window: int) -> None:
    video = clip(frames)
    got = enlarged(video, stage(time=3), window=window)
    after = torch.cat([video[:, 1:], video[:, -1:]], dim=1)  # nothing comes after the last frame: it is repeated
    wanted = torch.stack([video.lerp(after, share) for share in (0, 1 / 3, 2 / 3)], dim=2).flatten(1, 2)
    assert torch.allclose(got, wanted, atol=1e-6)


def test_given_frames_stay_as_they_are_and_the_others_are_the_stages() -> None:
    video = clip(9)
    got = enlarged(video, stage(lambda x, hint: 0 * hint + 0.5, time=2))
    assert torch.equal(got[:, ::2], video)
    assert torch.equal(got[:, 1::2], torch.full_like(video, 0.5))


def test_a_frames_noise_is_its_own_wherever_windows_and_tiles_begin() -> None:
    noise = stage(lambda x, hint: x / 4, time=2)
    video = clip(20)
    whole = enlarged(video, noise, window=100, tile=100, seed=3)
    assert torch.allclose(enlarged(video, noise, window=4, tile=8, seed=3)[:, :-2], whole[:, :-2], atol=1e-6)
    assert not torch.allclose(enlarged(video, noise, window=100, tile=100, seed=4), whole, atol=0.1)
    assert whole[:, 1::2].std() == pytest.approx(0.25, abs=0.02)


def test_what_is_made_larger_agrees_with_what_it_was_made_from() -> None:
    video = 0.5 * clip(3)
    wrong = resize(video[None], 28, 36) + 0.3
    errors = [(resize(one, 7, 9) - video).abs().mean() for one in (wrong, agreeing(wrong.clone(), video[None], 1))]
    assert errors[1] < 0.5 * errors[0]


def test_a_clip_goes_through_several_stages() -> None:
    video = clip(6)
    got = enlarged(video, stage(time=2), stage(space=2))
    longer = enlarged(video, stage(time=2))[None]
    assert torch.allclose(got, agreeing(resize(longer, 14, 18), longer, 1)[0], atol=1e-6)


def test_only_a_window_of_a_long_clip_is_held_at_once() -> None:
    taken = 0

    def endless() -> Iterator[Tensor]:
        nonlocal taken
        while True:
            taken += 1
            yield torch.zeros(3, 4, 4)

    given, ahead = 0, []
    for piece in upscale(endless(), [stage(time=2), stage(space=2)], window=8):
        given += piece.shape[1]
        ahead.append(taken - given / 2)
        if given > 600:
            break
    assert max(ahead[len(ahead) // 2 :]) == max(ahead[: len(ahead) // 2]) <= 12, "no more late in the clip than early"


def test_a_clip_of_one_frame_has_nothing_in_between() -> None:
    with pytest.raises(ValueError, match="one frame is too short"):
        enlarged(clip(1), stage(time=2))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompt": "a cat"}, "enlarges without words"),
        ({"window": 3}, "a window of 3 frames is too short for this model: use 4 or more"),
        ({"tile": 3}, "tiles of 3 pixels are too small for this model: use 4 or more"),
    ],
)
def test_what_a_stage_cannot_do_is_said(options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Enlarger.of(stage(time=2, multiple=2), **options)


def test_a_prompt_reaches_a_stage_that_hears_it() -> None:
    hears = replace(stage(space=2), text=SmallTextEncoder(dim=8, vocabulary_size=300))
    heard = []

    def listen(x: Video, hint: Video) -> Video:
        return hint

    hears.net.formula = listen
    original = hears.text.forward
    hears.text.forward = lambda prompts: heard.append(list(prompts)) or original(prompts)
    list(upscale(clip(2).unbind(1), [hears], prompt="a cat"))
    assert ["a cat"] in heard


def test_stages_are_chosen_and_joined_to_the_factors_that_are_asked_for() -> None:
    base = replace(stage(space=2), given=None)
    stages = {"base": base, "larger": stage(space=2), "longer": stage(time=2), "largest": stage(space=4)}
    assert chosen(stages, time=1, space=2) == [stages["larger"]]
    assert chosen(stages, time=2, space=4) == [stages["longer"], stages["largest"]]
    assert chosen(stages, time=4, space=8) == [stages["longer"], stages["longer"], stages["larger"], stages["largest"]]
    with pytest.raises(ValueError, match=r"cannot be joined to time 1, space 3: they are 'larger' \(time 1, space 2\)"):
        chosen(stages, time=1, space=3)
    with pytest.raises(ValueError, match="no stage that enlarges a video"):
        chosen({"base": base}, time=1, space=2)
