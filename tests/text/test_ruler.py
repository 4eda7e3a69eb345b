"""The length of a prompt without the model is its length with it."""

import pickle

import pytest

from noisereel.pipeline import TextToVideo
from noisereel.text.ruler import Ruler, too_long

PROMPTS = ("", " ", "a red circle", "A  red\tcircle &amp; a café", "unbroken" * 30, "\ud800", "✨ two small stars")


def agrees(ruler: Ruler, encoder: object) -> None:
    sent = pickle.loads(pickle.dumps(ruler))
    assert [sent.length(prompt) for prompt in PROMPTS] == [encoder.length(prompt) for prompt in PROMPTS]
    assert sent.max_length == encoder.max_length


def test_of_a_small_encoder(tiny: TextToVideo) -> None:
    agrees(tiny.ruler, tiny.system.first.text)


def test_what_is_too_long_is_said_with_both_lengths(tiny: TextToVideo) -> None:
    most = tiny.ruler.max_length
    assert too_long(tiny.ruler, "a red circle") is None
    assert f"the model reads {most}" in too_long(tiny.ruler, "é" * most)
    with pytest.raises(ValueError, match=f"reads {most}"):
        tiny.check_lengths(["é" * most])
