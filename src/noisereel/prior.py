"""From the embedding of a caption to the embedding of an image that fits it, by diffusion: all that ever reads text.

Make-A-Video (Singer et al. 2022, section 3.1) after unCLIP (Ramesh et al. 2022, section 2.2). The networks behind it are told
of images alone, so they learn from images and videos that nobody has described.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Generator, Tensor, nn

from noisereel.conditioning import drop_captions
from noisereel.diffusion.guidance import Guide, cfg
from noisereel.diffusion.process import Diffusion
from noisereel.diffusion.samplers import Sampler, ancestral
from noisereel.diffusion.schedules import Cosine
from noisereel.diffusion.times import ladder, stratified
from noisereel.nets.layers import ScalarEmbedding, zero
from noisereel.text.contrastive import Embeddings, TextImage, one_frame, unit
from noisereel.text.transformer import Block
from noisereel.types import Batch, Cond, Groups, Loss, Rng, Text, Times, Video, randn

DROPPED = 0.1  # captions, in training, so that there is something to guide away from
Point = Float[Tensor, "b e 1 1 1"]  # an embedding as a video of one pixel, which is what diffusion knows


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How image embeddings are sampled."""

    guide: Guide = field(default_factory=lambda: cfg(2.0))
    sampler: Sampler = field(default_factory=ancestral)
    steps: int = 16
    candidates: int = 2  # of which the one with the largest dot product with the caption's embedding is kept


class PriorNet(nn.Module):
    """A causal transformer over the caption's tokens, its embedding, the time, the noisy image embedding and a query.

    What the query comes out as is the clean image embedding (unCLIP, section 2.2).
    """

    def __init__(self, *, dim: int, token_dim: int, max_length: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.config = {"dim": dim, "token_dim": token_dim, "max_length": max_length}
        self.config |= {"width": width, "depth": depth, "heads": heads}
        self.token, self.text, self.image = (nn.Linear(before, width) for before in (token_dim, dim, dim))
        self.time = ScalarEmbedding(width, width, unit=1000.0)
        self.query = nn.Parameter(0.02 * torch.randn(width))
        self.position = nn.Parameter(0.02 * torch.randn(max_length, width))
        self.place = nn.Parameter(0.02 * torch.randn(4, width))  # of what comes after the tokens
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.out = zero(nn.Linear(width, dim))

    def forward(self, x: Point, t: Times, cond: Cond) -> Point:
        assert cond.text is not None
        tokens = self.token(cond.text.tokens) + self.position[: cond.text.tokens.shape[1]]
        last = [self.text(cond.text.pooled), self.time(t), self.image(x[..., 0, 0, 0]), self.query.expand(len(x), -1)]
        h = torch.cat([tokens, torch.stack(last, dim=1) + self.place], dim=1)
        attend = causal(cond.text.mask, len(last))
        for block in self.blocks:
            h = block(h, attend)
        return self.out(self.norm(h[:, -1]))[..., None, None, None]


class Prior(nn.Module):
    """Draws an image embedding for each prompt; a text encoder for stages that are told what an image shows.

    The embedding is what is pooled, and there are no tokens; a network can make its own of it (``UNet(pooled_tokens=4)``).
    Training such a stage takes no text: ``from_clips`` says what a frame of each clip shows. In sampling the noise is that of
    each sample's own generator, so two seeds begin from two ideas of the same sentence, and a result depends on its own seed
    alone. Called without generators, as any text encoder can be, it takes noise that the prompt itself seeds: the same prompt
    is then always the same embedding.

    No prompt is no embedding, zeros: what guidance of the stages leans away from.
    """

    def __init__(self, encoder: TextImage, *, width: int, depth: int, heads: int, drawing: Drawing | None = None) -> None:
        super().__init__()
        assert isinstance(encoder, nn.Module)
        self.encoder = encoder
        self.net = PriorNet(
            dim=encoder.dim,
            token_dim=encoder.text.dim,
            max_length=getattr(encoder.text, "max_length", 77),
            width=width,
            depth=depth,
            heads=heads,
        )
        self.config = self.net.config
        self.diffusion = Diffusion(schedule=Cosine(), predicts="x0", draw=stratified)
        self.drawing = drawing or Drawing()
        self.dim = self.pooled_dim = encoder.dim

    # A text encoder

    def forward(self, prompts: Sequence[str | None]) -> Text:
        seeds = [blake2b((prompt or "").encode("utf-8", "replace"), digest_size=7).digest() for prompt in prompts]
        return self.from_prompts(prompts, [Generator().manual_seed(int.from_bytes(seed, "big")) for seed in seeds])

    @torch.no_grad()
    def from_prompts(self, prompts: Sequence[str | None], rng: Rng) -> Text:
        """What an image might show that fits each prompt; of each generator ``drawing.candidates`` are drawn."""
        wanted = self.encoder.read(prompts)
        unwanted = self.encoder.read([None] * len(prompts))
        drawn = torch.stack([self._draw(wanted, unwanted, rng) for _ in range(self.drawing.candidates)])
        best = (drawn * wanted.pooled).sum(-1).argmax(0)
        return shown(drawn[best, torch.arange(len(best), device=best.device)]).without([prompt is None for prompt in prompts])

    @torch.no_grad()
    def from_clips(self, video: Video, groups: Groups | None, rng: Rng) -> Text:
        """What a frame of each clip shows."""
        return shown(self.encoder.see(one_frame(video, groups, rng)))

    @property
    def max_length(self) -> int:
        """Tokens of a prompt that are read."""
        return self._reader.max_length

    @property
    def vocabulary(self) -> Any:
        """Of a text tower that was trained here; others have none."""
        return self._reader.vocabulary

    @property
    def ruler(self) -> Any:
        """What tells ``length`` without this module; None where nothing does."""
        return getattr(self._reader, "ruler", None)

    def length(self, prompt: str) -> int:
        """How many tokens a prompt has."""
        return self._reader.length(prompt)

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of the prompt that no image's caption held; those of motion are among them, for images do not move."""
        return self._reader.unknown_words(prompt) if hasattr(self._reader, "unknown_words") else []

    # What the trainer trains

    def loss(self, batch: Batch, rng: Rng) -> Loss:
        """The squared error of the image embedding, by a noisy one and its caption."""
        x0, captions = self._pairs(batch, rng)
        with torch.no_grad():
            text = self.encoder.read(drop_captions(captions, None, DROPPED, rng))
        return Loss(total=self.diffusion.loss(self.net, point(x0), Cond(text=text), rng).mean())

    @torch.no_grad()
    def validate(self, batch: Batch, rng: Rng) -> dict[str, float]:
        """The error at half noise; the cosine of what is drawn to the image's own embedding, and that of the caption's."""
        x0, captions = self._pairs(batch, rng)
        text = self.encoder.read(captions)
        half = x0.new_full((len(x0),), 0.5)
        error = self.diffusion.loss_at(self.net, point(x0), Cond(text=text), half, rng).mean()
        drawn = self.from_prompts(captions, rng).pooled
        cosines = {name: float((other * x0).mean()) for name, other in (("cosine", drawn), ("cosine_of_text", text.pooled))}
        return {"loss@0.5": float(error), **cosines}

    def preview(self, prompts: Sequence[str], rng: Rng) -> Video:
        raise ValueError("a prior makes no videos: give its phase no prompts")

    def parts(self) -> dict[str, nn.Module]:
        """Itself, with the encoder it stands on."""
        return {"prior": self}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The transformer; the encoder is trained before it."""
        return [{"params": list(self.net.parameters())}]

    @property
    def _reader(self) -> Any:
        """The text tower, which may know its words."""
        return self.encoder.text

    def _draw(self, wanted: Text, unwanted: Text, rng: Rng) -> Embeddings:
        """One embedding for each caption, by way of its generator."""
        how, device = self.drawing, wanted.pooled.device
        denoiser = how.guide(*(self.diffusion.denoiser(self.net, Cond(text=text)) for text in (wanted, unwanted)))
        start = randn(rng, self.dim, 1, 1, 1).to(device)
        *_, last = how.sampler(denoiser, start, ladder(self.diffusion.schedule, how.steps), rng)
        return unit(rearrange(last.x, "b e 1 1 1 -> b e"))

    def _pairs(self, batch: Batch, rng: Rng) -> tuple[Embeddings, list[str | None]]:
        assert batch.groups is None, "a prior learns from one image to a sample"
        with torch.no_grad():
            return self.encoder.see(one_frame(batch.video, None, rng)), batch.captions


def shown(embeddings: Embeddings) -> Text:
    """Image embeddings as what a stage is told: no words."""
    none = embeddings.new_zeros(len(embeddings), 0, embeddings.shape[1])
    return Text(tokens=none, mask=none.new_zeros(none.shape[:2], dtype=torch.bool), pooled=embeddings)


def point(embeddings: Embeddings) -> Point:
    """Embeddings as videos of one pixel."""
    return embeddings[..., None, None, None]


def causal(mask: Bool[Tensor, "n l"], after: int) -> Bool[Tensor, "n q q"]:
    """Which position looks at which: those before it that are real, and itself; ``after`` real ones follow the tokens."""
    real = torch.cat([mask, mask.new_ones(len(mask), after)], dim=1)
    count = real.shape[1]
    itself = torch.eye(count, dtype=torch.bool, device=mask.device)
    return torch.ones(count, count, dtype=torch.bool, device=mask.device).tril() & (real[:, None] | itself)
