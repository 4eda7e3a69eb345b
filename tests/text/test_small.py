import copy
import json

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from noisereel.text.small import SmallTextEncoder
from noisereel.types import Text

CAPTIONS = [
    "a red circle moves left",
    "a blue square moves to the right slowly and then it stops there for a while",
    "the green triangle",
    "a red square spins",
]


@pytest.fixture
def encoder() -> SmallTextEncoder:
    torch.manual_seed(0)
    encoder = SmallTextEncoder(vocabulary_size=300, dim=32, depth=2, heads=4, max_length=40)
    encoder.learn_words(CAPTIONS)
    return encoder


def check_equal(a: Text, b: Text) -> None:
    assert torch.equal(a.tokens, b.tokens)
    assert torch.equal(a.mask, b.mask)
    assert torch.equal(a.pooled, b.pooled)


@pytest.mark.parametrize("null", [None, "", " \n"])
def test_no_caption_is_exactly_nothing(encoder: SmallTextEncoder, null: str | None) -> None:
    for prompts, row in (([null], 0), ([CAPTIONS[0], null], 1)):
        text = encoder(prompts)
        assert not text.mask[row].any()
        assert (text.tokens[row] == 0).all()
        assert (text.pooled[row] == 0).all()


def test_no_caption_gives_finite_gradients_and_no_part_of_them(encoder: SmallTextEncoder) -> None:
    def gradients(prompts: list[str | None]) -> list[torch.Tensor]:
        encoder.zero_grad()
        text = encoder(prompts)
        (text.tokens.square().sum() + text.pooled.sin().sum()).backward()
        return [parameter.grad.clone() for parameter in encoder.parameters()]

    for with_null, without in zip(gradients([CAPTIONS[0], None]), gradients([CAPTIONS[0]]), strict=True):
        torch.testing.assert_close(with_null, without, atol=1e-5, rtol=1e-5)
    assert all((gradient == 0).all() for gradient in gradients([None, None]))


def test_a_prompt_means_the_same_in_any_company(encoder: SmallTextEncoder) -> None:
    together = encoder([*CAPTIONS, None])
    for row, caption in enumerate(CAPTIONS):
        alone = encoder([caption])
        length = encoder.length(caption)
        assert alone.mask.sum() == together.mask[row].sum() == length
        torch.testing.assert_close(alone.tokens[0, :length], together.tokens[row, :length], atol=1e-6, rtol=0)
        torch.testing.assert_close(alone.pooled[0], together.pooled[row], atol=1e-6, rtol=0)
        assert (together.tokens[row, length:] == 0).all()


def test_pooling_ignores_padding(encoder: SmallTextEncoder) -> None:
    torch.manual_seed(1)
    tokens, attend = torch.randn(1, 8, 32), torch.arange(8)[None] < 5
    other = torch.where(attend[..., None], tokens, torch.randn(1, 8, 32))
    assert torch.equal(encoder.pool(tokens, tokens, attend), encoder.pool(other, other, attend))
    shifted = attend.roll(1, 1)
    assert not torch.allclose(encoder.pool(tokens, tokens, attend), encoder.pool(tokens, tokens, shifted))


def test_no_word_can_drown_another(encoder: SmallTextEncoder) -> None:
    """Whatever the transformer learns to ignore, each word still moves the pooled vector by its own embedding."""
    with torch.no_grad():
        for block in encoder.blocks:
            block.out.weight.mul_(1e3)  # one direction swamps every token, and the norm leaves nothing else
    red, blue = encoder(["a red circle", "a blue circle"]).pooled
    ids = [encoder.vocabulary.ids(prompt) for prompt in ("a red circle", "a blue circle")]
    sums = [encoder.token(torch.tensor(row)).sum(dim=0) / len(row) ** 0.5 for row in ids]
    own = (encoder.pool.word(sums[0]) - encoder.pool.word(sums[1])).norm()
    assert (red - blue).norm() > 0.5 * own


def test_attention_is_scaled_dot_product_attention(encoder: SmallTextEncoder) -> None:
    torch.manual_seed(1)
    block, x, attend = encoder.blocks[0], torch.randn(2, 8, 32), torch.arange(8) < torch.tensor([[5], [8]])
    q, k, v = (part.unflatten(2, (4, 8)).transpose(1, 2) for part in block.qkv(x).chunk(3, dim=2))
    mixed = scaled_dot_product_attention(q, k, v, attn_mask=attend[:, None, None])
    torch.testing.assert_close(block._attention(x, attend[:, None]), block.out(mixed.transpose(1, 2).flatten(2)))


def test_the_order_of_words_matters(encoder: SmallTextEncoder) -> None:
    one, other = encoder(["red circle blue square", "blue circle red square"]).pooled
    assert (one - other).abs().max() > 1e-2
    # Without positions the pooled vector cannot tell them apart: it is they that do it.
    with torch.no_grad():
        encoder.position.weight.zero_()
    one, other = encoder(["red circle blue square", "blue circle red square"]).pooled
    torch.testing.assert_close(one, other, atol=1e-5, rtol=0)


def test_padded_lengths_are_few(encoder: SmallTextEncoder) -> None:
    lengths = {encoder(["red " * count]).tokens.shape[1] for count in range(41)}
    assert lengths == {8, 16, 24, 32, 40}


def test_gradients_reach_every_parameter(encoder: SmallTextEncoder) -> None:
    text = encoder(CAPTIONS)
    torch.manual_seed(1)
    ((text.tokens * torch.randn_like(text.tokens)).sum() + (text.pooled * torch.randn_like(text.pooled)).sum()).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    unread = set(range(300)) - {number for caption in CAPTIONS for number in encoder.vocabulary.ids(caption)}
    assert (encoder.token.weight.grad[sorted(unread)] == 0).all()


def test_any_prompt_is_read_and_a_cut_one_says_so(encoder: SmallTextEncoder) -> None:
    encoder(["a zorgle 🦊 北京 \ud800 \x00", "naïve Ünïcödé"])
    long = "a red circle " * 800
    assert encoder.length(long) == 4000
    with pytest.warns(UserWarning, match="4000 tokens is cut to its first 40"):
        cut = encoder([long])
    check_equal(cut, encoder(["a red circle " * 8]))
    with pytest.warns(UserWarning, match="10001 tokens"):
        encoder(["\u2603" * 3333 + "x"])


def test_unknown_words(encoder: SmallTextEncoder) -> None:
    assert encoder.unknown_words("A red ZORGLE, moving left") == ["zorgle", "moving"]


def test_a_rebuilt_encoder_is_the_same(encoder: SmallTextEncoder) -> None:
    config = json.loads(json.dumps(encoder.config))
    state = encoder.state_dict()
    again = SmallTextEncoder(**config)
    extra = json.loads(json.dumps(state.pop("_extra_state")))
    again.load_state_dict({**state, "_extra_state": extra})
    check_equal(again([*CAPTIONS, "unseen", None]), encoder([*CAPTIONS, "unseen", None]))
    assert again.unknown_words("a red zorgle") == ["zorgle"]
    check_equal(copy.deepcopy(encoder)(CAPTIONS), encoder(CAPTIONS))


def test_a_vocabulary_too_large_for_the_network_is_refused(encoder: SmallTextEncoder) -> None:
    larger = SmallTextEncoder(vocabulary_size=320, dim=32)
    larger.learn_words([" ".join(f"word{number}" for number in range(100))])
    with pytest.raises(ValueError, match="320 tokens, the text encoder room for 300"):
        encoder.set_extra_state(larger.get_extra_state())


def test_half_precision_autocast_changes_only_rounding(encoder: SmallTextEncoder) -> None:
    exact = encoder([*CAPTIONS, None])
    with torch.autocast("cpu", torch.bfloat16):
        rough = encoder([*CAPTIONS, None])
    torch.testing.assert_close(rough.pooled.float(), exact.pooled, atol=0.1, rtol=0)
    torch.testing.assert_close(rough.tokens.float(), exact.tokens, atol=0.1, rtol=0)


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of its 4 heads, given 30"):
        SmallTextEncoder(dim=30)


def test_words_that_no_caption_held_can_be_left_unread() -> None:
    torch.manual_seed(0)
    encoder = SmallTextEncoder(vocabulary_size=300, dim=32, heads=4, only_known=True)
    torch.testing.assert_close(encoder(["A red, circle!"]).pooled, encoder(["A red, circle!"]).pooled)
    encoder.learn_words(CAPTIONS)
    check_equal(encoder(["a red zebra circle waltzes left"]), encoder(["a red circle left"]))
    check_equal(encoder(["a RED circle, left!"]), encoder(["a red circle left"]))
    assert not encoder(["zebra"]).mask.any()
    assert encoder.unknown_words("a zebra") == ["zebra"]
    reads_all = SmallTextEncoder(vocabulary_size=300, dim=32, heads=4)
    reads_all.learn_words(CAPTIONS)
    assert reads_all(["zebra"]).mask.any()
