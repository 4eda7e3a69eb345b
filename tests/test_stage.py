"""A stage with a network simple enough that the right answer is known."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from noisereel.codecs.pixels import Pixels
from noisereel.conditioning import KnownFrames, LowRes, every, first
from noisereel.diffusion.guidance import cfg
from noisereel.diffusion.process import Diffusion
from noisereel.diffusion.samplers import ancestral, ddim
from noisereel.diffusion.schedules import Cosine
from noisereel.stage import VALIDATION_TIMES, Stage
from noisereel.types import Batch, Cond, Known, Rng, Text, Time, Video, generators, randn

SHAPE = (4, 8, 8)


class Formula(nn.Module):
    """A network that is a formula; it keeps what it was asked."""

    def __init__(self, formula: Callable[[Video, Time, Cond], Tensor]) -> None:
        super().__init__()
        self.formula = formula
        self.blocks = nn.ModuleList()
        self.weight = nn.Parameter(torch.zeros(1))
        self.asked: list[tuple[Video, Time, Cond]] = []

    def forward(self, x: Video, t: Time, cond: Cond) -> Video:
        self.asked.append((x, t, cond))
        return self.formula(x, t, cond).expand_as(x) + self.weight

    def temporal_parameters(self) -> list[nn.Parameter]:
        return []


class Lengths:
    """A text encoder whose pooled vector is a tenth of the prompt's length; no caption is 0."""

    dim = 1
    pooled_dim = 1

    def __call__(self, prompts: Sequence[str | None]) -> Text:
        pooled = torch.tensor([[len(prompt or "") / 10] for prompt in prompts])
        return Text(tokens=pooled[:, None], mask=torch.ones(len(pooled), 1, dtype=torch.bool), pooled=pooled)


class LearnedLengths(Lengths, nn.Module):
    """The same as a module."""


def caption_length(x: Video, t: Time, cond: Cond) -> Tensor:
    return cond.text.pooled[:, :, None, None, None]


def restless(x: Video, t: Time, cond: Cond) -> Tensor:
    """Depends on everything: its own video, the time, the caption."""
    return torch.tanh(x) * (1 - t)[:, None, None, None, None] + caption_length(x, t, cond)


def stage(formula: Callable[[Video, Time, Cond], Tensor], **changes: object) -> Stage:
    usual = Stage(
        net=Formula(formula),
        diffusion=Diffusion(schedule=Cosine(), predicts="x0"),
        codec=Pixels(),
        text=Lengths(),
        shape=SHAPE,
        fps=8.0,
        steps=5,
    )
    return replace(usual, **changes)


def video(count: int = 1, seed: int = 0) -> Video:
    return torch.rand(count, 3, *SHAPE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def batch(clips: Video, **changes: object) -> Batch:
    usual = Batch(video=clips, captions=["word"] * len(clips), fps=torch.full((len(clips),), 8.0))
    return replace(usual, **changes)


def rng(*indices: int) -> Rng:
    return generators(3, indices)


def sampled(model: Stage, prompts: Sequence[str | None], indices: Sequence[int], **options: object) -> Video:
    *_, last = model.sample(prompts, None, rng(*indices), **options)
    return last.x


def knows(truth: Video, predicts: str) -> Callable[[Video, Time, Cond], Tensor]:
    """The network that knows the clean video and answers what ``predicts`` asks for."""
    diffusion = Diffusion(schedule=Cosine(), predicts=predicts)

    def formula(x: Video, t: Time, cond: Cond) -> Tensor:
        level = diffusion.schedule(t)
        alpha, sigma = (part[:, None, None, None, None] for part in (level.alpha, level.sigma))
        return diffusion.target(truth.expand_as(x), (x - alpha * truth) / sigma, t)

    return formula


@pytest.mark.parametrize("predicts", ["x0", "v"])
@pytest.mark.parametrize("sampler", [ancestral(gamma=0.3), ddim()])
@pytest.mark.parametrize("patch", [1, 2])
def test_a_network_that_knows_the_video_gives_the_video(predicts: str, sampler: object, patch: int) -> None:
    truth, codec = video(), Pixels(patch=patch)
    diffusion = Diffusion(schedule=Cosine(), predicts=predicts)
    model = stage(knows(codec.encode(truth), predicts), codec=codec, sampler=sampler, diffusion=diffusion)
    assert torch.allclose(model.preview(["word"], rng(0)), truth, atol=1e-4)


def test_a_network_that_knows_the_video_has_no_loss() -> None:
    truth = video(2)
    model = stage(knows(truth[:1], "x0"))
    known = batch(truth[:1].expand(2, -1, -1, -1, -1))
    assert model.loss(known, rng(0, 1)).total.item() < 1e-10
    assert model.loss(batch(truth), rng(0, 1)).total.item() > 0.1


def test_validate_gives_the_loss_at_each_time_with_captions_kept() -> None:
    model = stage(lambda x, t, cond: caption_length(x, t, cond) * t[:, None, None, None, None], caption_dropout=1.0)
    measured = model.validate(batch(torch.zeros(2, 3, *SHAPE)), rng(0, 1))
    # x0 is 0 and "word" is 0.4 long, so the error at time t is (0.4 t)^2.
    assert measured == pytest.approx({f"loss@{t:g}": (0.4 * t) ** 2 for t in VALIDATION_TIMES})


def test_loss_drops_captions_and_hands_on_groups_and_rates() -> None:
    model = stage(lambda x, t, cond: 0 * x, caption_dropout=1.0)
    groups = torch.tensor([[0, 0, 1, 2], [3, 3, 4, 5]])
    fps = torch.arange(6.0)
    model.loss(batch(video(2), captions=list("abcdef"), fps=fps, groups=groups), rng(0, 1))
    *_, cond = model.net.asked[-1]
    assert cond.text.pooled.tolist() == [[0]] * 6
    assert torch.equal(cond.groups, groups)
    assert torch.equal(cond.fps, fps)


def test_a_videos_noise_is_its_own() -> None:
    model = stage(restless, guide=cfg(3.0))
    prompts = ["one", "a longer one", "three"]
    together = sampled(model, prompts, [0, 1, 2])
    alone = sampled(model, prompts[1:2], [1])
    assert torch.allclose(together[1:2], alone, atol=1e-6)
    assert not torch.allclose(together[:1], together[1:2], atol=0.1)


def test_the_same_seed_gives_the_same_bits() -> None:
    model = stage(restless)
    assert torch.equal(sampled(model, ["one"], [0]), sampled(model, ["one"], [0]))


@pytest.mark.parametrize(("negative", "expected"), [(None, 0.0 + 3 * 0.5), (["ab"], 0.2 + 3 * (0.5 - 0.2))])
def test_guidance_leans_away_from_the_negative_prompt(negative: list[str] | None, expected: float) -> None:
    model = stage(caption_length, guide=cfg(3.0))
    assert torch.allclose(sampled(model, ["abcde"], [0], negative=negative), torch.tensor(expected), atol=1e-5)


def test_a_prompt_of_none_samples_without_a_caption() -> None:
    assert sampled(stage(caption_length), [None], [0]).abs().max() < 1e-6


def test_steps_count_down_to_a_clean_video() -> None:
    steps = list(stage(restless, steps=7).sample(["one"], None, rng(0)))
    assert [step.index for step in steps] == list(range(7))
    assert {step.total for step in steps} == {7}
    assert [step.t for step in steps] == sorted((step.t for step in steps), reverse=True)
    assert torch.equal(steps[-1].x, steps[-1].clean)


def test_the_network_is_told_the_frame_rate_of_the_stage() -> None:
    model = stage(caption_length, fps=12.0)
    sampled(model, ["a", "b"], [0, 1])
    assert all(torch.equal(cond.fps, torch.tensor([12.0, 12.0])) for *_, cond in model.net.asked)


def test_another_shape_and_given_noise() -> None:
    model = stage(restless, sampler=ddim())
    assert sampled(model, ["one"], [0], shape=(1, 4, 12)).shape == (1, 3, 1, 4, 12)
    noise = torch.randn(1, 3, *SHAPE, generator=torch.Generator().manual_seed(1))
    assert torch.equal(sampled(model, ["one"], [0], noise=noise), sampled(model, ["one"], [5], noise=noise))


def test_known_frames_pull_the_sample_to_themselves() -> None:
    # The network believes every pixel of a clip has the clip's mean, so what it is told of two frames moves all four.
    model = stage(
        lambda x, t, cond: x.mean((1, 2, 3, 4), keepdim=True), steps=32, diffusion=Diffusion(schedule=Cosine(), predicts="x0")
    )
    known = Known(video=torch.full((1, 3, *SHAPE), 0.7), frames=torch.tensor([True, True, False, False]))
    with_known, without = sampled(model, ["one"], [0], known=known), sampled(model, ["one"], [0])
    unknown = with_known[:, :, 2:]
    assert (unknown - 0.7).abs().mean() < (without[:, :, 2:] - 0.7).abs().mean() / 2


def test_a_stage_passes_on_what_it_is_given() -> None:
    before = video()[:, :, :, ::2, ::2]
    model = stage(lambda x, t, cond: cond.hint.channels, given=LowRes(size=SHAPE, space=2))
    *_, last = model.sample(["one"], before, rng(0))
    assert torch.allclose(last.x, model.given.from_previous(before, rng(0)).channels, atol=1e-2)
    assert model.loss(batch(video()), rng(0)).total > 0


def test_hints_in_training_come_from_the_clip() -> None:
    model = stage(lambda x, t, cond: cond.hint.channels[:, :3], given=KnownFrames(which=first(4)))
    assert model.loss(batch(video(2)), rng(0, 1)).total.item() < 1e-10


def test_known_frames_are_told_in_latents() -> None:
    """Squares of pixels are channels there, so neither the mask nor the frames have the size of the video."""
    codec = Pixels(patch=2)
    given = KnownFrames(which=first(3), video_channels=codec.channels)
    model = stage(lambda x, t, cond: cond.hint.channels[:, :-1], given=given, codec=codec)
    clips = video(2)
    model.loss(batch(clips), rng(0, 1))
    kept = batch(codec.encode(clips), encoded=True)
    assert model.loss(kept, rng(0, 1)).total == model.loss(batch(clips), rng(0, 1)).total
    for *_, cond in model.net.asked:
        assert cond.hint.channels.shape == (2, 13, 4, 4, 4)
        assert torch.equal(cond.hint.channels[:, :-1, :3], codec.encode(clips)[:, :, :3])
    assert not model.needs_video
    sampled(model, ["one"], [0])
    assert not model.net.asked[-1][2].hint.channels.any()


def test_a_network_that_is_told_of_frames_needs_no_pull() -> None:
    given = KnownFrames(which=first(0, 1, 2))
    model = stage(restless, given=given, reconstruction=1e6)
    known = Known(video=video(), frames=torch.tensor([True, False, False, True]))
    x = sampled(model, ["one"], [0], known=known)
    assert torch.equal(x[:, :, [0, 3]], known.video[:, :, [0, 3]])
    assert x.abs().max() < 3
    for noisy, t, cond in model.net.asked:
        assert torch.equal(cond.hint.channels[:, 3, :, 0, 0], known.frames.float()[None])
        level = model.diffusion.schedule(t)
        noise = (noisy - level.alpha * known.video)[:, :, [0, 3]]
        assert float(noise.std()) == pytest.approx(float(level.sigma), rel=0.25)


def test_a_stage_that_fills_in_takes_its_size_from_the_video_before() -> None:
    given = KnownFrames(which=every(4), spacing=4)
    model = stage(lambda x, t, cond: cond.hint.channels[:, :3], given=given, shape=(13, 8, 8))
    before = video()[:, :, :3, :6]
    *_, last = model.sample(["one"], before, rng(0))
    assert last.x.shape == (1, 3, 9, 6, 8)
    assert torch.equal(last.x[:, :, ::4], before)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_context_guidance_leans_away_from_being_given_nothing(scale: float) -> None:
    model = stage(lambda x, t, cond: cond.hint.channels[:, 3:], given=KnownFrames(which=first(1)), context=cfg(scale))
    known = Known(video=video(), frames=torch.tensor([True, True, False, False]))
    asked = len(list(model.sample(["one"], None, rng(0), known=known)))
    assert len(model.net.asked) == asked * (1 if scale == 1 else 2)
    x = sampled(model, ["one"], [0], known=known)
    assert not x[:, :, 2:].any()  # 0 of the mask, less 0 of nothing
    model = replace(model, net=Formula(lambda x, t, cond: cond.hint.channels[:, 3:].amax(2, keepdim=True)))
    assert torch.allclose(sampled(model, ["one"], [0], known=known)[:, :, 2:], torch.tensor(scale))


def test_a_stage_that_needs_a_video_says_so() -> None:
    with pytest.raises(ValueError, match="stage before"):
        stage(restless, given=LowRes(size=SHAPE)).sample(["one"], None, rng(0))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((0, 8, 8), "frames 0 .* takes 1 or more"),
        ((4, 7, 8), "height 7 .* multiple of 2, such as 6 or 8"),
        ((4, 8, 1), "width 1 .* such as 2"),
        ((4, -8, 8), "height -8 .* such as 2"),
    ],
)
def test_illegal_sizes_name_the_legal_ones(shape: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message + "$"):
        stage(restless, codec=Pixels(patch=2)).latent_shape(shape)


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_network_gone_wrong_is_reported_not_shown(poison: float) -> None:
    model = stage(lambda x, t, cond: x * poison)
    with pytest.raises(ValueError, match="not finite"):
        model.preview(["one"], rng(0))


def test_a_stage_without_a_sampling_step_is_refused_when_it_is_made() -> None:
    with pytest.raises(ValueError, match="at least 1 step, not 0"):
        stage(restless, steps=0)


def test_decoding_clamps() -> None:
    assert stage(restless).decode(torch.full((1, 3, *SHAPE), 3.0)).max() == 1


def test_parts_and_parameters() -> None:
    model = stage(restless)
    assert model.parts() == {"unet": model.net}
    assert model.parameter_groups() == [{"params": [model.net.weight]}]
    model.net.weight.requires_grad_(False)
    assert model.parameter_groups() == [{"params": []}]
    assert set(replace(model, text=LearnedLengths()).parts()) == {"unet", "text_encoder"}


def test_gradients_reach_the_network() -> None:
    model = stage(restless)
    model.loss(batch(video()), rng(0)).total.backward()
    assert model.net.weight.grad.abs() > 0


class EveryFourth(Pixels):
    """A codec that keeps the first frame and every fourth after it."""

    lead = 1
    stride = (4, 1, 1)

    def encode(self, video: Video) -> Tensor:
        return video[:, :, ::4]

    def decode(self, latent: Tensor) -> Video:
        return torch.cat([latent[:, :, :1], latent[:, :, 1:].repeat_interleave(4, dim=2)], dim=2)


def test_latents_are_padded_to_whole_patches_in_time() -> None:
    """Three latent frames do not fill patches of two: one more is sampled before them, and not shown."""
    model = stage(caption_length, codec=EveryFourth(), shape=(9, 8, 8))
    model.net.multiple_frames = 2
    assert model.latent_shape((9, 8, 8)) == (3, 4, 8, 8)
    assert model.latent_shape((1, 8, 8)) == (3, 2, 8, 8)
    with pytest.raises(ValueError, match="frames 5 will not do: this model takes 1 and a multiple of 8, such as 1 or 9"):
        model.latent_shape((5, 8, 8))
    latent = torch.arange(4.0).reshape(1, 1, 4, 1, 1).expand(1, 3, 4, 8, 8) / 4
    assert model.decode(latent)[0, 0, :, 0, 0].tolist() == [0.25] + [0.5] * 4 + [0.75] * 4
    known = Known(video=torch.full((1, 3, 9, 8, 8), 0.5), frames=torch.arange(9) < 1)
    for prefixes in (0.0, 0.5):
        x = sampled(replace(model, prefixes=prefixes), ["word"], [0], shape=(9, 8, 8), known=known)
        assert (x[:, :, 1] == 0.5).all()
        assert (x[:, :, 0] != 0.5).any()


class Drawn(Lengths):
    """A clip reader: of a clip the mean of its first frame; of a prompt its length plus something drawn."""

    def from_clips(self, video: Video, groups: Tensor | None, rng: Rng) -> Text:
        return self._text(video[:, :, 0].mean((1, 2, 3))[:, None])

    def from_prompts(self, prompts: Sequence[str | None], rng: Rng) -> Text:
        return self._text(super().__call__(prompts).pooled + randn(rng, 1))

    def _text(self, pooled: Tensor) -> Text:
        return Text(tokens=pooled[:, None], mask=torch.ones(len(pooled), 1, dtype=torch.bool), pooled=pooled)


def test_a_clip_reader_is_told_of_the_clip_in_training_and_of_the_prompt_in_sampling() -> None:
    model = stage(caption_length, text=Drawn(), caption_dropout=0.0)
    clips = video(3)
    for captions in (["word"] * 3, [None] * 3):
        model.loss(batch(clips, captions=captions), rng(0, 1, 2))
        _, _, cond = model.net.asked[-1]
        assert torch.equal(cond.text.pooled[:, 0], clips[:, :, 0].mean((1, 2, 3)))
    drawn = randn(rng(0, 1), 1)
    last = sampled(model, ["one", "three"], [0, 1])
    assert torch.allclose(last.mean((1, 2, 3, 4)), torch.tensor([0.3, 0.5]) + drawn[:, 0], atol=1e-5)
    assert torch.equal(sampled(model, ["three"], [1]), last[1:])


def test_what_a_clip_reader_says_is_forgotten_as_captions_are() -> None:
    model = stage(caption_length, text=Drawn(), caption_dropout=0.5)
    count = 64
    model.loss(batch(video(count), captions=[None] * count), rng(*range(count)))
    told = model.net.asked[-1][2].text
    forgotten = ~told.mask[:, 0]
    assert 16 < int(forgotten.sum()) < 48
    assert torch.equal(told.pooled[:, 0] == 0, forgotten)


def test_frames_sampled_apart_share_their_noise() -> None:
    given = LowRes(size=(4, 16, 16), space=2, sample_noise=0.3)
    model = stage(lambda x, t, cond: 0.5 * torch.tanh(x) + 0.5 * cond.hint.channels, shape=(4, 16, 16), given=given, apart=True)
    model = replace(model, sampler=ancestral(gamma=0.3))
    before = video(2)[:, :, :1].expand(-1, -1, 4, -1, -1).clone()
    *_, apart = model.sample(["one", "two"], before, rng(0, 1))
    assert apart.x.shape == (2, 3, 4, 16, 16)
    assert torch.equal(apart.x, apart.x[:, :, :1].expand_as(apart.x))
    assert not torch.allclose(apart.x[0], apart.x[1])
    *_, together = replace(model, apart=False).sample(["one", "two"], before, rng(0, 1))
    assert not torch.allclose(together.x[:, :, 0], together.x[:, :, 1], atol=0.1)
    # A frame's result is its own: another frame beside it changes nothing.
    before[:, :, 2] = 0
    *_, other = model.sample(["one", "two"], before, rng(0, 1))
    same = torch.tensor([True, True, False, True])
    assert torch.equal(other.x[:, :, same], apart.x[:, :, same])
    assert not torch.allclose(other.x[:, :, 2], apart.x[:, :, 2])
    *_, second = model.sample(["two"], before[1:], rng(1))
    assert torch.equal(second.x[0], other.x[1])
