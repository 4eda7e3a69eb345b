"""The model card that a trained model is born with; whoever publishes it says more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CARD = """---
library_name: noisereel
pipeline_tag: text-to-video
tags:
- text-to-video
- video-diffusion
- {recipe}
---

# A {recipe} model

Text-to-video diffusion, trained from random weights by `noisereel train {recipe}`.

## How it was trained

{call}

{about}

## How to use it

```sh
noisereel generate "a red circle moves to the left" --model FOLDER -o out.mp4
```
"""


def model_card(call: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    """A card that says how the model was made and with what result."""
    return CARD.format(recipe=call["recipe"], call=table(call["arguments"]), about=table(about))


def table(facts: Mapping[str, Any]) -> str:
    """Two columns of Markdown."""
    return "\n".join(["| what | value |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())])
