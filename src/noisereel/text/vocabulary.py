"""Captions cut into tokens by byte-level BPE, and the words that training has seen."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterable
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from noisereel.text.ruler import encodable

BYTES = 256
APOSTROPHES = "'\u2019"
REMEMBERED = 65536  # prompts whose tokens are kept, so that each caption of a data set is cut once


def train_tokenizer(captions: Iterable[str], size: int) -> Tokenizer:
    """Learn at most ``size`` tokens from captions: the 256 bytes and the commonest joins of them.

    Case and the amount of white space are ignored. Nothing is ever unknown: what no join covers falls apart into
    bytes. The result depends on the captions alone, not on their order. ``size`` is at least 256.
    """
    if size < BYTES:
        raise ValueError(f"a byte-level vocabulary holds at least {BYTES} tokens, given {size}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    # The prefix space makes the first word of a caption the same token as that word anywhere else.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((encodable(caption) for caption in captions), trainer)
    return tokenizer


def words_of(text: str) -> list[str]:
    """The words of a text in order, without case and punctuation; an emoji or another sign counts as a word."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    spaced = "".join(" " if _separates(character) else character for character in plain)
    return [word for word in (word.strip(APOSTROPHES) for word in spaced.split()) if word]


class Vocabulary:
    """A tokenizer, the words seen in its training captions, and a memory of prompts already cut."""

    def __init__(self, tokenizer: Tokenizer, words: Iterable[str]) -> None:
        self.tokenizer = tokenizer
        self.words = frozenset(words)
        self._remembered: dict[str, tuple[int, ...]] = {}

    @classmethod
    def learn(cls, captions: Iterable[str], size: int) -> Vocabulary:
        """Tokens and words of the captions; of none at all, the plain bytes."""
        captions = list(captions)
        return cls(train_tokenizer(captions, size), {word for caption in captions for word in words_of(caption)})

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> Vocabulary:
        """The inverse of ``to_json``; raises ValueError if ``state`` is not what that wrote."""
        try:
            return cls(Tokenizer.from_str(state["tokenizer"]), state["words"])
        except Exception as error:  # tokenizers raises bare Exception
            raise ValueError(f"the stored vocabulary of the text encoder cannot be read: {error}") from error

    def to_json(self) -> dict[str, Any]:
        """The whole vocabulary as values that JSON can hold."""
        return {"tokenizer": self.tokenizer.to_str(), "words": sorted(self.words)}

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    def ids(self, prompt: str) -> tuple[int, ...]:
        """The numbers of all the prompt's tokens; none for a blank prompt."""
        if prompt not in self._remembered:
            if len(self._remembered) >= REMEMBERED:
                self._remembered.clear()
            ids = self.tokenizer.encode(encodable(prompt), add_special_tokens=False).ids
            self._remembered[prompt] = tuple(ids)
        return self._remembered[prompt]

    def unknown_words(self, prompt: str) -> list[str]:
        """The prompt's words that no training caption held, each once, in the prompt's order."""
        return [word for word in dict.fromkeys(words_of(prompt)) if word not in self.words]


def warn_if_too_long(length: int, max_length: int) -> None:
    """Say that a prompt is cut."""
    if length > max_length:
        warnings.warn(f"a prompt of {length} tokens is cut to its first {max_length}", stacklevel=2)


def _separates(character: str) -> bool:
    """Whether a character stands between words: punctuation, space or a control sign."""
    return unicodedata.category(character)[0] in "PZC" and character not in APOSTROPHES
