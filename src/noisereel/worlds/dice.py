"""Where a world's randomness and its held-out part come from: names and integers, nothing else."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

_HELD_OUT_ONE_IN = 8
# Chosen among 400 so that the 110 combinations held out of the small part of the shapes world show every value evenly.
_HELD_OUT_SALT = 231


def dice(name: str, index: int) -> np.random.Generator:
    """The random numbers of clip ``index`` in the stream called ``name``: a pure function of the two."""
    if index < 0:
        raise ValueError(f"clips are numbered from 0, got {index}")
    return np.random.default_rng((_number(name), index))


def held_out(*values: str) -> bool:
    """Whether a combination of attribute values is kept for testing: one in eight, by a hash that never changes."""
    return _number("|".join(values), _HELD_OUT_SALT) % _HELD_OUT_ONE_IN == 0


def _number(text: str, salt: int = 0) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8, salt=salt.to_bytes(8, "big")).digest(), "big")
