import json
import subprocess
import sys

import pytest

from noisereel.text.vocabulary import Vocabulary, train_tokenizer, words_of

CAPTIONS = [
    "A red circle moves left.",
    "a blue square, slowly, moves to the right",
    "The green triangle isn't moving",
    "a red square spins on a white ground",
] * 5


def test_the_tokenizer_is_the_same_every_time_and_for_any_order_of_captions() -> None:
    here = train_tokenizer(CAPTIONS, 400).to_str()
    assert here == train_tokenizer(reversed(CAPTIONS), 400).to_str()
    code = f"from noisereel.text.vocabulary import train_tokenizer; print(train_tokenizer({CAPTIONS!r}, 400).to_str())"
    # Another process draws other seeds for its hash tables.
    elsewhere = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(elsewhere) == json.loads(here)


def test_tokens_ignore_case_and_white_space_and_the_first_word_is_like_any_other() -> None:
    vocabulary = Vocabulary.learn(CAPTIONS, 400)
    assert vocabulary.ids("  A red\tCIRCLE \n moves left.") == vocabulary.ids("a red circle moves left.")
    assert vocabulary.ids("red square") == vocabulary.ids("red") + vocabulary.ids("square")
    assert vocabulary.ids("red circle") != vocabulary.ids("circle red")


def test_common_words_become_one_token_and_unseen_ones_fall_apart_into_bytes() -> None:
    vocabulary = Vocabulary.learn(CAPTIONS, 400)
    assert len(vocabulary.ids("red")) == 1
    assert len(vocabulary.ids("🦊")) == 1 + len("🦊".encode())  # the space before it is a byte too
    for unseen in ("zorgle ✨ ελληνικά 北京", "\x00 <unk> <pad> </s>"):
        assert vocabulary.tokenizer.decode(vocabulary.ids(unseen)).strip() == unseen
    assert vocabulary.ids("a\ud800") == vocabulary.ids("a?")


def test_a_vocabulary_smaller_than_the_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 256 tokens, given 200"):
        train_tokenizer(CAPTIONS, 200)
    assert len(Vocabulary.learn([], 256)) == 256


def test_words_drop_case_and_punctuation_and_keep_apostrophes_and_signs() -> None:
    assert words_of("The 'light-blue' fox's tail, ISN’T… (here)!") == ["the", "light", "blue", "fox's", "tail", "isn’t", "here"]
    assert words_of("🦊 runs; 3 Ｄogs") == ["🦊", "runs", "3", "dogs"]
    assert words_of("हिन्दी") == ["हिन्दी"]
    assert words_of(" ,. ") == []


def test_unknown_words_come_once_and_in_order() -> None:
    vocabulary = Vocabulary.learn(CAPTIONS, 400)
    assert vocabulary.unknown_words("A Zorgle, a RED fox; a zorgle!") == ["zorgle", "fox"]
    assert vocabulary.unknown_words(CAPTIONS[0].upper()) == []


def test_a_vocabulary_survives_json() -> None:
    vocabulary = Vocabulary.learn(CAPTIONS, 400)
    again = Vocabulary.from_json(json.loads(json.dumps(vocabulary.to_json())))
    for prompt in [*CAPTIONS, "an unseen 🦊", ""]:
        assert again.ids(prompt) == vocabulary.ids(prompt)
    assert again.words == vocabulary.words


@pytest.mark.parametrize("state", [{}, {"tokenizer": "{", "words": []}, {"tokenizer": None, "words": []}, {"tokenizer": "{}"}])
def test_a_broken_vocabulary_is_named(state: dict) -> None:
    with pytest.raises(ValueError, match="vocabulary of the text encoder cannot be read"):
        Vocabulary.from_json(state)
