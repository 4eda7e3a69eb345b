"""Captions as a small grammar: sentences with slots, and several ways to say each value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from string import Formatter

import numpy as np

# "a unicorn", "a ukulele", "a one-eyed ...": written with a vowel, spoken with a consonant.
_A_BEFORE_VOWEL = re.compile(r"\b([Aa]) (?=(?!uni|uku|use|eu|one\b|one-)[aeiou])", re.IGNORECASE)

Words = dict[str, dict[str, tuple[str, ...]]]  # slot -> value -> ways to say it


@dataclass(frozen=True, kw_only=True)
class Language:
    """A way of describing scenes: a caption is one template with each slot filled by one way to say its value.

    Templates use ``str.format`` slots, such as ``"a {colour} {shape}"``; ``words[slot][value]`` lists the ways to say a
    value, and a value without an entry is said as it is. Articles are put right: "a orange" becomes "an orange".
    """

    templates: tuple[str, ...]
    words: Words

    def phrase(self, rng: np.random.Generator, values: Mapping[str, str]) -> str:
        """One caption for a scene whose slots hold ``values``."""
        template, slots = self._parsed[rng.integers(len(self._parsed))]
        ways = {slot: self._ways(slot, values[slot]) for slot in slots}
        return _articles(template.format(**{slot: said[rng.integers(len(said))] for slot, said in ways.items()}))

    def phrasings(self, values: Mapping[str, str]) -> Iterator[str]:
        """Every caption that ``phrase`` could give for ``values``."""
        for template, slots in self._parsed:
            for said in product(*(self._ways(slot, values[slot]) for slot in slots)):
                yield _articles(template.format(**dict(zip(slots, said, strict=True))))

    def _ways(self, slot: str, value: str) -> tuple[str, ...]:
        return self.words.get(slot, {}).get(value, (value,))

    @cached_property
    def _parsed(self) -> list[tuple[str, tuple[str, ...]]]:
        """Each template with its slots."""
        slots = [{name for _, name, _, _ in Formatter().parse(template) if name} for template in self.templates]
        return [(template, tuple(sorted(names))) for template, names in zip(self.templates, slots, strict=True)]


def _articles(caption: str) -> str:
    return _A_BEFORE_VOWEL.sub(r"\1n ", caption)
