"""A network that sees what a clip shows and how it moves, for distances between sets of videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from noisereel import checkpoint
from noisereel.codecs.word_reader import words_of
from noisereel.types import Batch, Loss, Rng, Video

VERSION = 1  # of the weights that are shipped; distances of different versions cannot be compared
SIZE = (8, 32, 32)  # frames, height and width at which it looks
SHIPPED = Path(__file__).parent / f"features-{VERSION}"


class ClipFeatures(nn.Module):
    """Convolutions over space and time under one linear layer that says for each word whether the clip's caption holds it.

    It learns from captioned clips and nothing else, words of motion included. The features of a clip are what the last layer
    is given; where in the picture something happens is averaged away.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, *, words: Sequence[str] = (), widths: Sequence[int] = (32, 64, 96), features: int = 64) -> None:
        super().__init__()
        self.config: dict[str, Any] = dict(words=tuple(words), widths=tuple(widths), features=features)
        self.layers = nn.ModuleList()
        for number, (width, out) in enumerate(zip((3, *widths), widths, strict=False)):
            stride = (1 if number == 0 else 2, 2, 2)
            conv = nn.Conv3d(width, out, 3, stride=stride, padding=1)
            self.layers.append(nn.Sequential(conv, nn.GroupNorm(8, out), nn.SiLU()))
        self.to_features = nn.Linear(2 * widths[-1], features)
        self.to_words = nn.Linear(features, len(words))
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("spread", torch.ones(()))

    def forward(self, video: Video) -> Float[Tensor, "b f"]:
        """The features of clips in [-1, 1] of any size and length, seen at ``SIZE``."""
        x = _looked_at(video)
        for layer in self.layers:
            x = layer(x)
        return self.to_features(torch.cat([x.mean(dim=(2, 3, 4)), x.amax(dim=(2, 3, 4))], dim=1))

    @torch.no_grad()
    def see(self, videos: Video, batch: int = 64) -> Float[Tensor, "n f"]:
        """The features of many clips, a few at a time, about their centre and at unit variance of true clips."""
        features = torch.cat([self(some.to(self.spread)) for some in videos.split(batch)])
        return (features - self.centre) / self.spread

    @torch.no_grad()
    def normalise(self, videos: Video) -> None:
        """Take centre and spread from true clips."""
        features = self.see(videos)
        self.centre.add_(self.spread * features.mean(0))
        self.spread.mul_((features - features.mean(0)).square().mean().sqrt())

    def loss(self, batch: Batch, rng: Rng) -> Loss:
        """Cross-entropy of each word of the captions."""
        logits, labels = self._read(batch)
        return Loss(total=F.binary_cross_entropy_with_logits(logits, labels.float()))

    @torch.no_grad()
    def validate(self, batch: Batch, rng: Rng) -> dict[str, float]:
        """The loss, and which share of the captions' words is named."""
        logits, labels = self._read(batch)
        recall = ((logits > 0) & labels).sum() / labels.sum()
        return {"loss": float(F.binary_cross_entropy_with_logits(logits, labels.float())), "recall": float(recall)}

    def preview(self, prompts: Sequence[str], rng: Rng) -> Video:
        raise ValueError("a feature network makes no videos: give its phase no prompts")

    def parts(self) -> dict[str, nn.Module]:
        return {"features": self}

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters())}]

    def _read(self, batch: Batch) -> tuple[Float[Tensor, "b words"], Bool[Tensor, "b words"]]:
        held = [set(words_of(caption or "")) for caption in batch.captions]
        labels = torch.tensor([[word in words for word in self.config["words"]] for words in held])
        logits = self.to_words(F.silu(self(batch.video)))
        return logits, labels.to(logits.device)


def shipped() -> ClipFeatures:
    """The released network, version ``VERSION``."""
    index = checkpoint.read_json(SHIPPED / "config.json")
    net = ClipFeatures(**index)
    net.load_state_dict(checkpoint.read_tensors(SHIPPED / "model.safetensors"))
    return net.eval().requires_grad_(False)


def _looked_at(video: Float[Tensor, "b c _ _ _"]) -> Float[Tensor, "b c _ _ _"]:
    """``SIZE`` of a video: evenly spread frames, their pixels averaged or interpolated."""
    frames, height, width = SIZE
    if video.shape[2] != frames:
        video = video[:, :, torch.linspace(0, video.shape[2] - 1, frames).round().long()]
    if tuple(video.shape[3:]) == (height, width):
        return video
    flat = F.interpolate(video.transpose(1, 2).flatten(0, 1), (height, width), mode="bilinear", antialias=True)
    return flat.unflatten(0, (len(video), frames)).transpose(1, 2)
