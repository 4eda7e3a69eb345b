"""How long prompts are, told by a tokenizer alone: light enough to be sent where no model is."""

from __future__ import annotations

from dataclasses import dataclass
from html import unescape
from typing import Protocol, runtime_checkable

from tokenizers import Tokenizer


@runtime_checkable
class Measure(Protocol):
    """What tells it: a text encoder, or its ``Ruler``."""

    max_length: int

    def length(self, prompt: str) -> int: ...


@dataclass
class Ruler:
    """A text encoder's tokenizer and how many tokens it reads."""

    tokenizer: Tokenizer
    max_length: int
    marks: bool = False  # whether a beginning and an end count
    tidy: bool = False  # whether prompts are tidied before

    def length(self, prompt: str) -> int:
        """How many tokens a prompt has; what is beyond ``max_length`` is not read."""
        read = tidied(prompt) if self.tidy else prompt
        return len(self.tokenizer.encode(encodable(read), add_special_tokens=self.marks).ids)


def too_long(measure: Measure, prompt: str, limit: int | None = None) -> str | None:
    """What is wrong with a prompt of more tokens than are read, or than the limit; None if nothing is."""
    most = min(measure.max_length, limit or measure.max_length)
    if (tokens := measure.length(prompt)) <= most:
        return None
    return f"the prompt has {tokens} tokens ({len(prompt)} characters) and the model reads {most}; shorten it"


def tidied(prompt: str) -> str:
    """Marks of HTML become what they stand for, and white space is one blank."""
    return " ".join(unescape(unescape(prompt)).split())


def encodable(text: str) -> str:
    """The text without lone surrogates, which a command line given broken bytes produces and UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
