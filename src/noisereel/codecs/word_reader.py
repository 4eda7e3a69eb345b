"""Training a feature network on nothing but captioned clips: it names the words of the caption from one frame."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from noisereel.codecs.features import FeatureNet, Images
from noisereel.types import Batch, Loss, Rng, Video, rand


@dataclass(frozen=True, kw_only=True, eq=False)
class WordReader:
    """A feature network under one linear layer that says for each word whether a frame's caption holds it.

    Words of motion cannot be read from a frame; they cost a constant and do no harm.
    """

    net: FeatureNet
    head: nn.Linear
    words: tuple[str, ...]

    @classmethod
    def of(cls, net: FeatureNet, captions: Iterable[str], most: int = 256) -> WordReader:
        """A reader of the ``most`` commonest words of the captions."""
        counts = Counter(word for caption in captions for word in words_of(caption))
        words = sorted(counts, key=lambda word: (-counts[word], word))[:most]
        if not words:
            raise ValueError("there is no word to learn features from: give captions that hold some")
        return cls(net=net, head=nn.Linear(net.widths[-1], len(words)), words=tuple(words))

    def loss(self, batch: Batch, rng: Rng) -> Loss:
        """Cross-entropy of each word, from a frame of each sample drawn at random."""
        logits, labels = self._read(batch, rng)
        return Loss(total=_cross_entropy(logits, labels))

    @torch.no_grad()
    def validate(self, batch: Batch, rng: Rng) -> dict[str, float]:
        """The loss; which share of the captions' words is named, and which share of the named ones is in the caption."""
        logits, labels = self._read(batch, rng)
        named = logits > 0
        right = float((named & labels).sum())
        return {
            "loss": float(_cross_entropy(logits, labels)),
            "recall": right / max(1.0, float(labels.sum())),
            "precision": right / max(1.0, float(named.sum())),
        }

    def preview(self, prompts: Sequence[str], rng: Rng) -> Video:
        raise ValueError("a feature network makes no videos: give its phase no prompts")

    def parts(self) -> dict[str, nn.Module]:
        """The network, and the layer that only its training needs."""
        return {"features": self.net, "words": self.head}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All of both."""
        return [{"params": [*self.net.parameters(), *self.head.parameters()]}]

    def _read(self, batch: Batch, rng: Rng) -> tuple[Float[Tensor, "n k"], Bool[Tensor, "n k"]]:
        """Logits and truth for each word of each sample whose drawn frame has a caption."""
        images, captions = self._frames(batch, rng)
        logits = self.head(self.net(images)[-1].float().mean((2, 3))).float()
        held = [words_of(caption) for caption in captions]
        labels = torch.tensor([[word in words for word in self.words] for words in held], dtype=torch.bool)
        return logits, labels.reshape(logits.shape).to(logits.device)

    def _frames(self, batch: Batch, rng: Rng) -> tuple[Images, list[str]]:
        """A frame of each sample, and its caption, where it has one."""
        rows = torch.arange(len(batch.video))
        frames = (rand(rng) * batch.video.shape[2]).long()
        clips = rows if batch.groups is None else batch.groups.cpu()[rows, frames]
        captions = [batch.captions[clip] for clip in clips.tolist()]
        kept = torch.tensor([i for i, caption in enumerate(captions) if caption is not None], dtype=torch.long)
        images = batch.video[kept, :, frames[kept]]
        return images, [caption for caption in captions if caption is not None]


def _cross_entropy(logits: Float[Tensor, "n k"], labels: Bool[Tensor, "n k"]) -> Float[Tensor, ""]:
    """The mean over words and samples; nothing where there are no samples."""
    return F.binary_cross_entropy_with_logits(logits, labels.float(), reduction="sum") / max(1, labels.numel())


def words_of(caption: str) -> frozenset[str]:
    """The words of a caption, without case."""
    return frozenset(re.findall(r"\w+", caption.casefold()))
