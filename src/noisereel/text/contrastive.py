"""A text encoder and an image encoder that learn together which caption belongs to which image (CLIP, trained from nothing)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from noisereel.text.small import SmallTextEncoder
from noisereel.text.transformer import Block
from noisereel.types import Batch, Groups, Loss, Rng, Text, TextEncoder, Video, rand

Images = Float[Tensor, "n c h w"]  # in [-1, 1]
Embeddings = Float[Tensor, "n e"]  # of Euclidean length sqrt(e), so that a component has unit variance

COLDEST = 100.0  # the temperature is at least its inverse (Radford et al. 2021, section 2.5)


@runtime_checkable
class TextImage(Protocol):
    """Captions and images as vectors of one space, in which those that belong together have a large dot product."""

    @property
    def text(self) -> TextEncoder: ...

    @property
    def dim(self) -> int:
        """Width of an embedding."""
        ...

    def read(self, prompts: Sequence[str | None]) -> Text:
        """The tokens of captions, and their embeddings as what is pooled; no caption is 0."""
        ...

    def see(self, images: Images) -> Embeddings: ...


class Contrastive(nn.Module):
    """Two towers and a temperature, trained by telling the pairs of a batch from all other combinations (symmetric InfoNCE).

    Radford et al. 2021, figure 3. It is what the trainer trains; afterwards it is frozen, and a ``Prior`` is built on it.

    Args:
        text: the text tower.
        dim: width of the embeddings.
        size: pixels of the images the image tower sees, a multiple of 8; others are resized.
        width, depth, heads: of the image tower.
    """

    def __init__(
        self, text: SmallTextEncoder, *, dim: int = 128, size: int = 32, width: int = 128, depth: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        self.config = {"dim": dim, "size": size, "width": width, "depth": depth, "heads": heads}
        self.dim = dim
        self.text = text
        self.image = ImageTower(size=size, width=width, depth=depth, heads=heads)
        self.text_head = nn.Linear(text.pooled_dim, dim, bias=False)
        self.image_head = nn.Linear(width, dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))  # the inverse temperature

    def read(self, prompts: Sequence[str | None]) -> Text:
        text = self.text(prompts)
        return Text(tokens=text.tokens, mask=text.mask, pooled=unit(self.text_head(text.pooled)))

    def see(self, images: Images) -> Embeddings:
        return unit(self.image_head(self.image(images)))

    def loss(self, batch: Batch, rng: Rng) -> Loss:
        """The mean cross-entropy of finding the image of each caption and the caption of each image, within the batch."""
        logits = self._logits(batch, rng)
        found = float((logits.argmax(1) == _pairs(logits)).float().mean())
        return Loss(total=_info_nce(logits), parts={"retrieval": found, "scale": float(self.log_scale.detach().exp())})

    @torch.no_grad()
    def validate(self, batch: Batch, rng: Rng) -> dict[str, float]:
        """The loss, and how often the best image for a caption is its own and the other way round."""
        logits = self._logits(batch, rng)
        found = {name: float((scores.argmax(1) == _pairs(scores)).float().mean()) for name, scores in _ways(logits)}
        return {"loss": float(_info_nce(logits)), **found}

    def preview(self, prompts: Sequence[str], rng: Rng) -> Video:
        raise ValueError("a contrastive encoder makes no videos: give its phase no prompts")

    def parts(self) -> dict[str, nn.Module]:
        """Itself."""
        return {"contrastive": self}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All of it. Matrices decay, so that tokens no caption holds fade away."""
        matrices = [parameter for parameter in self.parameters() if parameter.ndim > 1]
        return [{"params": matrices}, {"params": [p for p in self.parameters() if p.ndim < 2], "weight_decay": 0.0}]

    def _logits(self, batch: Batch, rng: Rng) -> Float[Tensor, "n n"]:
        """How well each caption (row) fits each image (column)."""
        kept = [number for number, caption in enumerate(batch.captions) if caption is not None]
        if len(kept) < 2:
            raise ValueError("captions and images are told apart in a batch with 2 captions or more: give images with captions")
        images = one_frame(batch.video, batch.groups, rng)[kept]
        texts, seen = self.read([batch.captions[number] for number in kept]).pooled, self.see(images)
        with torch.autocast(texts.device.type, enabled=False):  # a hundred times a cosine has no digits to lose
            return self.log_scale.exp().clamp(max=COLDEST) * (texts.float() @ seen.float().T) / self.dim


class ImageTower(nn.Module):
    """Convolutions down to an eighth of the size, a transformer over the positions, their mean."""

    def __init__(self, *, size: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        if size % 8 or width % 8 or width % heads:
            raise ValueError(f"an image tower takes a size and a width that are multiples of 8, given {size} and {width}")
        self.size = size
        widths = [width // 8, width // 4, width // 2, width]
        self.first = nn.Conv2d(3, widths[0], 3, padding=1)
        self.halvings = nn.ModuleList(
            nn.Sequential(nn.GroupNorm(1, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1, stride=2))
            for before, after in pairwise(widths)
        )
        self.position = nn.Parameter(0.02 * torch.randn((size // 8) ** 2, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Images) -> Float[Tensor, "n width"]:
        x = self.first(resized(images, self.size))
        for halve in self.halvings:
            x = halve(x)
        x = rearrange(x, "n c h w -> n (h w) c") + self.position
        everywhere = torch.ones(1, 1, x.shape[1], dtype=torch.bool, device=x.device)
        for block in self.blocks:
            x = block(x, everywhere)
        return self.norm(x).mean(1)


def unit(x: Embeddings) -> Embeddings:
    """The direction of each vector, at the length that gives its components unit variance; 0 stays 0."""
    return F.normalize(x.float(), dim=-1) * math.sqrt(x.shape[-1])


def resized(images: Images, size: int) -> Float[Tensor, "n c size size"]:
    """Images at another size, antialiased."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)


def one_frame(video: Video, groups: Groups | None, rng: Rng) -> Images:
    """A frame of each clip, drawn by the generator of the sample that holds it."""
    if groups is None:
        drawn = (rand(rng) * video.shape[2]).long()
        return video[torch.arange(len(video)), :, drawn]
    places = []
    for clip in range(int(groups.max()) + 1):
        frames = (groups == clip).nonzero().tolist()
        assert frames, f"no frame belongs to clip {clip}"
        places.append(frames[int(torch.rand((), generator=rng[frames[0][0]]) * len(frames))])
    samples, drawn = torch.tensor(places).unbind(1)
    return video[samples, :, drawn]


def _pairs(logits: Float[Tensor, "n n"]) -> Tensor:
    return torch.arange(len(logits), device=logits.device)


def _ways(logits: Float[Tensor, "n n"]) -> tuple[tuple[str, Tensor], tuple[str, Tensor]]:
    return ("image_of_caption", logits), ("caption_of_image", logits.T)


def _info_nce(logits: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    return (F.cross_entropy(logits, _pairs(logits)) + F.cross_entropy(logits.T, _pairs(logits))) / 2
