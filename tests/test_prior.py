"""From captions to what images show: the oracle is a prior whose answer is known; chance is each sample's own."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from noisereel.diffusion.guidance import cfg
from noisereel.prior import Drawing, Prior, causal, point
from noisereel.text.contrastive import Contrastive, unit
from noisereel.text.small import SmallTextEncoder
from noisereel.types import Batch, ClipReader, Cond, Text, TextEncoder, Trainable, generators, randn

CAPTIONS = ["a red circle", "a blue square", "a small green ring that is large"]


def prior(**drawing) -> Prior:
    torch.manual_seed(0)
    text = SmallTextEncoder(vocabulary_size=300, dim=32, only_known=True)
    text.learn_words(CAPTIONS)
    encoder = Contrastive(text, dim=24, size=16, width=32, depth=1)
    made = Prior(encoder, width=32, depth=2, heads=4, drawing=Drawing(**(dict(steps=4) | drawing)))
    nn.init.normal_(made.net.out.weight, std=0.3)
    nn.init.normal_(made.net.image.weight, std=1.0)  # or it would hardly look at the noise
    return made.eval()


class Fits(nn.Module):
    """The prior that knows: what is shown is the caption's own embedding, or less of it where nothing was asked."""

    def forward(self, x, t, cond):
        return point(cond.text.pooled) + 0 * x


def test_it_is_a_text_encoder_and_can_be_trained():
    made = prior()
    assert isinstance(made, TextEncoder)
    assert isinstance(made, ClipReader)
    assert isinstance(made, Trainable)
    text = made([*CAPTIONS, None])
    assert text.pooled.shape == (4, 24)
    assert text.tokens.shape == (4, 0, 24)
    torch.testing.assert_close(text.pooled[:3].square().mean(1), torch.ones(3))
    assert not text.pooled[3].any()


def test_a_prior_that_knows_the_embedding_draws_it():
    made = prior()
    made.net = Fits()
    text = made.from_prompts(CAPTIONS, generators(0, range(3)))
    torch.testing.assert_close(text.pooled, made.encoder.read(CAPTIONS).pooled)


def test_the_better_of_two_draws_is_kept():
    class Noise(nn.Module):
        """Answers with the noise it is shown: each draw is another."""

        def forward(self, x, t, cond):
            return x

    made = prior(candidates=2, guide=cfg(1.0))
    made.net = Noise()
    wanted = made.encoder.read(CAPTIONS).pooled
    one = [replace(made.drawing, candidates=1) for _ in range(2)]
    rng = generators(0, range(3))
    draws = []
    for drawing in one:
        made.drawing = drawing
        draws.append(made.from_prompts(CAPTIONS, rng).pooled)
    made.drawing = replace(one[0], candidates=2)
    best = made.from_prompts(CAPTIONS, generators(0, range(3))).pooled
    scores = torch.stack([(drawn * wanted).sum(1) for drawn in draws])
    assert set(scores.argmax(0).tolist()) == {0, 1}
    torch.testing.assert_close((best * wanted).sum(1), scores.max(0).values)


def test_chance_is_the_generators_and_nobody_elses():
    made = prior()
    together = made.from_prompts([*CAPTIONS, None], generators(0, range(4))).pooled
    for row, caption in enumerate(CAPTIONS):
        torch.testing.assert_close(made.from_prompts([caption], generators(0, [row])).pooled[0], together[row])
    other = made.from_prompts(CAPTIONS, generators(1, range(3))).pooled
    assert not torch.allclose(other, together[:3], atol=1e-2)
    # Without generators the prompt is the seed.
    torch.testing.assert_close(made(CAPTIONS).pooled[1:2], made(CAPTIONS[1:2]).pooled)
    assert not torch.allclose(made([CAPTIONS[0]]).pooled, together[:1], atol=1e-2)


def test_a_clip_is_what_a_frame_of_it_shows():
    made = prior()
    video = torch.rand(2, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    told = made.from_clips(video, None, generators(0, [0, 1])).pooled
    seen = torch.stack([made.encoder.see(video[:, :, frame]) for frame in range(4)], dim=1)
    distance = (seen - told[:, None]).norm(dim=-1)
    assert distance.min(1).values.max() < 1e-4
    groups = torch.tensor([[0, 0, 0, 1], [2, 2, 2, 3]])
    apart = made.from_clips(video, groups, generators(0, [0, 1])).pooled
    torch.testing.assert_close(apart[[1, 3]], seen[:, 3], atol=1e-4, rtol=1e-4)


def test_the_transformer_is_causal_and_does_not_see_padding():
    made = prior()
    net = made.net
    text = made.encoder.read([CAPTIONS[2]])
    longer = Text(
        tokens=torch.cat([text.tokens, torch.full((1, 3, 32), 9.0)], dim=1),
        mask=torch.cat([text.mask, torch.zeros(1, 3, dtype=torch.bool)], dim=1),
        pooled=text.pooled,
    )
    x, t = point(randn(generators(0, [0]), 24)), torch.tensor([0.4])
    net.place.data.zero_()  # of what is compared only the padding differs
    with torch.no_grad():
        torch.testing.assert_close(net(x, t, Cond(text=text)), net(x, t, Cond(text=longer)))
        assert net(x, t, Cond(text=made.encoder.read([None]))).isfinite().all()
    real = torch.tensor([[True, True, False]])
    assert torch.equal(
        causal(real, 2)[0].int(),
        torch.tensor([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 0, 1, 0], [1, 1, 0, 1, 1]]),
    )


def test_everything_the_network_is_told_matters():
    made = prior()
    x, t, text = point(randn(generators(0, [0]), 24)), torch.tensor([0.4]), made.encoder.read([CAPTIONS[0]])
    with torch.no_grad():
        usual = made.net(x, t, Cond(text=text))
        others = (
            made.net(x + 1, t, Cond(text=text)),
            made.net(x, t + 0.3, Cond(text=text)),
            made.net(x, t, Cond(text=replace(text, pooled=-text.pooled))),
            made.net(x, t, Cond(text=replace(text, tokens=text.tokens.flip(1)))),
        )
    assert all(not torch.allclose(other, usual, atol=1e-4) for other in others)


def test_its_loss_is_the_error_of_the_clean_embedding_and_moves_the_transformer_alone():
    made = prior()
    made.net.out.weight.data.zero_()
    video = torch.rand(4, 3, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    batch = Batch(video=video, captions=[*CAPTIONS, None], fps=torch.ones(4))
    loss = made.loss(batch, generators(0, range(4))).total
    assert loss.item() == pytest.approx(1.0, abs=1e-5)  # it says 0, and a component has unit variance
    loss.backward()
    assert made.net.out.weight.grad.any()
    assert all(parameter.grad is None for parameter in made.encoder.parameters())
    assert {id(p) for p in made.parameter_groups()[0]["params"]} == {id(p) for p in made.net.parameters()}
    measured = made.validate(batch, generators(0, range(4)))
    assert -1 <= measured["cosine"] <= 1


def test_words_that_no_image_taught_are_not_read():
    made = prior()
    assert made.unknown_words("a red circle moves left") == ["moves", "left"]
    with_motion, without = (made.encoder.read([text]).pooled for text in ("a red circle moves left", "a red circle"))
    torch.testing.assert_close(with_motion, without)
    assert made.length("a red circle") == made.encoder.text.length("a red circle")
    assert "circle" in made.vocabulary.words
    assert math.isclose(float(unit(torch.ones(1, 4)).norm()), 2.0)
