"""No text: what a model is given whose networks hear no captions."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from noisereel.types import Text


class Silent:
    """A text encoder that says nothing: one masked token of width 1 for every prompt. It has no weights."""

    dim = 1
    pooled_dim = 1

    def __call__(self, prompts: Sequence[str | None]) -> Text:
        count = len(prompts)
        return Text(tokens=torch.zeros(count, 1, 1), mask=torch.zeros(count, 1, dtype=torch.bool), pooled=torch.zeros(count, 1))
