"""The text encoder that recipes share: a new one, learned with the model, or a trained one, frozen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from noisereel import checkpoint
from noisereel.pretrained.places import locate
from noisereel.text.small import SmallTextEncoder
from noisereel.types import TextEncoder


def text_encoder(source: str, dim: int) -> SmallTextEncoder:
    """A new encoder of width ``dim``; or, where ``source`` names a trained model, that model's encoder, frozen.

    VDM, Imagen Video and Video LDM all take an encoder that was trained before, and do not train it.

    Raises:
        ValueError: there is no such model, or it has no encoder that was trained here.
    """
    if not source:
        return SmallTextEncoder(dim=dim)
    with torch.device("cpu"):  # where weights can be read, even if what is built around it will hold no numbers
        encoder = _opened(locate(str(Path(source).expanduser())))
    return encoder.to(torch.get_default_device()).eval().requires_grad_(False)


def learn_words(encoder: TextEncoder, captions: Callable[[], Iterable[str]]) -> None:
    """Let an encoder that is learned here meet the words of its captions; one that came trained knows its own."""
    if isinstance(encoder, SmallTextEncoder) and not encoder.vocabulary.words:
        encoder.learn_words(captions())


def _opened(folder: Path) -> SmallTextEncoder:
    kind = checkpoint.read_index(folder).get("text_encoder")
    if kind != [SmallTextEncoder.__module__, SmallTextEncoder.__qualname__]:
        raise ValueError(f"{folder} has no text encoder that was trained here: name a model of ours, such as 'default'")
    config = checkpoint.read_json(folder / "text_encoder" / checkpoint.CONFIG)
    encoder = SmallTextEncoder(**{name: value for name, value in config.items() if name != "_class_name"})
    checkpoint.load(folder, {"text_encoder": encoder})
    return encoder
