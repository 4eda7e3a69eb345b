"""Captions and images in one space: the loss against a written-out one, what the towers see, and that pairs are learned."""

import math
from dataclasses import replace

import pytest
import torch

from noisereel.text.contrastive import Contrastive, one_frame, unit
from noisereel.text.small import SmallTextEncoder
from noisereel.types import Batch, generators, randn

CAPTIONS = ["a red circle", "a blue square", "a small green ring"]


@pytest.fixture
def encoder() -> Contrastive:
    torch.manual_seed(0)
    text = SmallTextEncoder(vocabulary_size=300, dim=32, only_known=True)
    text.learn_words(CAPTIONS)
    return Contrastive(text, dim=24, size=16, width=32, depth=1)


def images(count: int = 3, frames: int = 1) -> Batch:
    video = torch.rand(count, 3, frames, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return Batch(video=video, captions=list(CAPTIONS[:count]), fps=torch.ones(count))


def test_embeddings_have_unit_variance_and_no_caption_is_nothing(encoder: Contrastive) -> None:
    text, seen = encoder.read([*CAPTIONS, None]), encoder.see(images().video[:, :, 0])
    for embeddings in (text.pooled[:3], seen):
        torch.testing.assert_close(embeddings.square().mean(1), torch.ones(3))
    assert not text.pooled[3].any()
    assert not unit(torch.zeros(1, 4)).any()


def test_the_loss_is_the_mean_of_finding_images_and_finding_captions(encoder: Contrastive) -> None:
    batch = images()
    text, seen = encoder.read(batch.captions).pooled, encoder.see(batch.video[:, :, 0])
    cosines = torch.nn.functional.cosine_similarity(text[:, None], seen[None], dim=-1)
    chances = cosines.div(0.07).exp()  # the temperature at birth
    right = chances.diagonal()
    expected = -(torch.log(right / chances.sum(1)) + torch.log(right / chances.sum(0))).mean() / 2
    torch.testing.assert_close(encoder.loss(batch, generators(0, [0, 1, 2])).total, expected)


def test_the_temperature_is_learned_and_never_below_a_hundredth(encoder: Contrastive) -> None:
    encoder.loss(images(), generators(0, [0, 1, 2])).total.backward()
    assert encoder.log_scale.grad
    hot, hotter = (_loss(encoder, math.log(scale)) for scale in (100.0, 1e4))
    assert hot == hotter


@torch.no_grad()
def _loss(encoder: Contrastive, log_scale: float) -> float:
    encoder.log_scale.fill_(log_scale)
    return float(encoder.loss(images(), generators(0, [0, 1, 2])).total)


def test_images_without_captions_are_left_out(encoder: Contrastive) -> None:
    batch = images()
    some = replace(batch, captions=[CAPTIONS[0], None, CAPTIONS[2]])
    kept = Batch(video=batch.video[[0, 2]], captions=[CAPTIONS[0], CAPTIONS[2]], fps=torch.ones(2))
    losses = [encoder.loss(which, generators(0, range(len(which.video)))).total.item() for which in (some, kept)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    with pytest.raises(ValueError, match="2 captions or more"):
        encoder.loss(replace(batch, captions=[CAPTIONS[0], None, None]), generators(0, [0, 1, 2]))


def test_images_of_any_size_are_seen(encoder: Contrastive) -> None:
    large = images().video[:, :, 0, :1, :1].expand(-1, -1, 48, 64)  # of one colour each: the same at any size
    torch.testing.assert_close(encoder.see(large), encoder.see(large[:, :, :16, :16]))


def test_a_frame_of_each_clip_is_drawn_by_its_own_sample() -> None:
    numbers = torch.arange(64 * 5.0).reshape(64, 1, 5, 1, 1)
    drawn = one_frame(numbers, None, generators(0, range(64))).flatten()
    assert torch.equal(drawn // 5, torch.arange(64.0))
    assert set((drawn % 5).tolist()) == set(range(5))
    alone = torch.cat([one_frame(numbers[i : i + 1], None, generators(0, [i])).flatten() for i in range(64)])
    assert torch.equal(drawn, alone)
    groups = torch.tensor([[0, 0, 0, 1, 2], [3, 3, 3, 4, 5]])
    grouped = one_frame(numbers[:2], groups, generators(0, [0, 1])).flatten()
    assert torch.equal(grouped[[1, 2, 4, 5]], torch.tensor([3.0, 4.0, 8.0, 9.0]))
    assert grouped[0] in (0, 1, 2)
    assert grouped[3] in (5, 6, 7)


def test_pairs_are_learned(encoder: Contrastive) -> None:
    """Of frames it has not seen in that noise; chance is a third."""
    colours = torch.tensor([[0.8, -0.8, -0.8], [-0.8, -0.8, 0.8], [-0.8, 0.8, -0.8]])[:, :, None, None, None]
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=3e-3)

    def batch(seed: int) -> Batch:
        noise = randn(generators(seed, range(3)), 3, 1, 16, 16)
        return Batch(video=colours + 0.3 * noise, captions=list(CAPTIONS), fps=torch.ones(3))

    for step in range(30):
        optimizer.zero_grad()
        encoder.loss(batch(step), generators(step, range(3))).total.backward()
        optimizer.step()
    measured = encoder.validate(batch(99), generators(0, range(3)))
    assert measured["image_of_caption"] == measured["caption_of_image"] == 1
    assert measured["loss"] < 0.1
