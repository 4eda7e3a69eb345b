"""The length of a prompt without the model is its length with it."""

import pickle

import pytest

from noisereel.pipeline import TextToVideo
from noisereel.text.ruler import too_long

PROMPTS = ("", " ", "a red circle", "A  red\tcircle &amp; a café", "unbroken" * 30, "\ud800", "✨ two small stars")


def test_sent_to_another_process_it_measures_as_the_encoder_does(tiny: TextToVideo) -> None:
    sent, encoder = pickle.loads(pickle.dumps(tiny.ruler)), tiny.system.first.text
    assert [sent.length(prompt) for prompt in PROMPTS] == [encoder.length(prompt) for prompt in PROMPTS]
    assert sent.max_length == encoder.max_length


def test_what_is_too_long_is_said_with_both_lengths(tiny: TextToVideo) -> None:
    most = tiny.ruler.max_length
    assert too_long(tiny.ruler, "a red circle") is None
    assert f"the model reads {most}" in too_long(tiny.ruler, "é" * most)
    with pytest.raises(ValueError, match=f"reads {most}"):
        tiny.check_lengths(["é" * most])
