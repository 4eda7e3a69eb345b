"""Training a variational autoencoder: what the trainer moves, and what it moves it by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from noisereel.codecs.clips import clip_starts
from noisereel.codecs.discriminator import Adversary
from noisereel.codecs.features import FeatureNet
from noisereel.codecs.losses import change, divergence, psnr
from noisereel.types import Batch, Latent, Loss, Rng, Video, randn

MOMENTUM = 0.1  # of the scale of the latents, as in batch normalisation: that of the last ten batches or so
AT_ONCE = 8  # held-out clips


@runtime_checkable
class Vae(Protocol):
    """A codec, also an ``nn.Module``, with a posterior to sample from; two of its buffers scale its latents."""

    mean: Tensor  # of each latent channel before scaling
    std: Tensor

    def posterior(self, video: Video) -> tuple[Latent, Latent]:
        """Mean and log-variance of the latents, before scaling."""
        ...

    def decode_raw(self, latent: Latent) -> Video:
        """Pixels of latents before scaling."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Autoencoder:
    """A codec and everything needed to train it.

    While the encoder learns, ``vae.mean`` and ``vae.std`` follow the latents of the batches, images and videos alike, so that
    when training ends ``encode`` gives unit variance; a frozen encoder keeps its scale.

    Errors are means over colours and pixels, the divergence over latent numbers. Latent diffusion weighs sums, where its
    ``kl`` of 1e-6 is 2e-8 of the means (Rombach et al. 2022; four numbers for 8x8 pixels).
    """

    vae: Vae
    shown: Video  # held-out clips for previews
    kl: float = 1e-4  # weight of the divergence from N(0, 1), in nats for each latent number
    squared: float = 0.0  # weight of the mean squared error, beside the mean absolute error at weight 1
    motion: float = 0.0  # weight of the error of the change from frame to frame: against flicker
    features: FeatureNet | None = None
    perceptual: float = 0.1  # weight of the distance of features
    adversary: Adversary | None = None  # none at first: it joins in a second phase, when there is something worth judging
    moving: Sequence[nn.Parameter] | None = None  # what is trained of the codec, all of it when None

    def __post_init__(self) -> None:
        if self.moving is not None and not self.moving:
            raise ValueError("nothing of the codec is to be trained: a temporal decoder needs a codec with temporal layers")

    def loss(self, batch: Batch, rng: Rng) -> Loss:
        """Errors of the reconstruction of a sampled posterior, and its divergence; clips of a sample are coded apart."""
        stacks = list(of_equal_length(batch, rng))
        posteriors = [self.vae.posterior(clips) for clips, _ in stacks]
        follow(self.vae, [mean for mean, _ in posteriors])
        terms: dict[str, Tensor] = defaultdict(lambda: batch.video.new_zeros(()))
        for (clips, own), posterior in zip(stacks, posteriors, strict=True):
            share = clips.numel() / batch.video.numel()
            for name, value in self._terms(clips, *posterior, own).items():
                terms[name] = terms[name] + share * value
        weights = {"l2": self.squared, "kl": self.kl, "motion": self.motion, "perceptual": self.perceptual}
        total = torch.stack([weights.get(name, 1.0) * value for name, value in terms.items()]).sum()
        values = torch.stack([*terms.values()]).tolist()  # one wait for the device
        return Loss(total=total, parts=dict(zip(terms, values, strict=True)))

    @torch.no_grad()
    def validate(self, batch: Batch, rng: Rng) -> dict[str, float]:
        """Of the most likely latents: PSNR in dB, L1, divergence, and flicker: change of frames over true change.

        Flicker is left out where nothing moves.
        """
        found = [self._measure(part) for clips, _ in of_equal_length(batch, rng) for part in clips.split(AT_ONCE)]
        joined = {name: torch.cat([measures[name] for measures in found]).double() for name in found[0]}
        changes, true_changes = (float(joined.pop(name).sum()) for name in ("changes", "true_changes"))
        means = {name: float(values.mean()) for name, values in joined.items()}
        return means | ({"flicker": changes / true_changes} if true_changes else {})

    @torch.no_grad()
    def preview(self, prompts: Sequence[str], rng: Rng) -> Video:
        """As many clips of ``shown`` as there are prompts, each beside its reconstruction."""
        truth = self.shown[: len(prompts)].to(self.vae.mean.device)
        mean, _ = self.vae.posterior(truth)
        return torch.cat([truth, self._decode(mean)], dim=-1)

    def parts(self) -> dict[str, nn.Module]:
        """The codec, under the name of its folder in a diffusers checkpoint, and the networks that train it."""
        adversary = None if self.adversary is None else self.adversary.net
        named = {"vae": self.vae, "features": self.features, "discriminator": adversary}
        return {name: part for name, part in named.items() if isinstance(part, nn.Module)}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The codec's share, and the discriminator at a rate of its own."""
        parts = self.parts()
        groups: list[dict[str, Any]] = [{"params": list(parts["vae"].parameters() if self.moving is None else self.moving)}]
        if self.adversary is not None:
            rate = self.adversary.learning_rate
            groups.append({"params": list(self.adversary.net.parameters())} | ({} if rate is None else {"lr": rate}))
        return groups

    def _terms(self, clips: Video, mean: Latent, logvar: Latent, rng: Rng) -> dict[str, Tensor]:
        """What is minimised for clips of one length, by name, before weighting."""
        video = self.vae.decode_raw(sample(mean, logvar, rng)).float()
        terms = {"kl": divergence(mean, logvar).mean()}
        if self.adversary is not None:
            video, judged = self.adversary.heard(video)
            terms |= self.adversary.terms(judged, clips)
        terms["l1"] = F.l1_loss(video, clips)
        if self.squared:
            terms["l2"] = F.mse_loss(video, clips)
        if self.motion and clips.shape[2] > 1:
            terms["motion"] = F.l1_loss(change(video), change(clips))
        if self.features is not None:
            terms["perceptual"] = self.features.distance(video, clips).mean()
        return terms

    def _measure(self, clips: Video) -> dict[str, Tensor]:
        """What validation tells of each clip."""
        mean, logvar = self.vae.posterior(clips)
        video = self._decode(mean)
        return {
            "psnr": psnr(video, clips),
            "l1": (video - clips).abs().mean((1, 2, 3, 4)),
            "kl": divergence(mean, logvar),
            "changes": change(video).abs().sum((1, 2, 3, 4)),
            "true_changes": change(clips).abs().sum((1, 2, 3, 4)),
        }

    def _decode(self, latent: Latent) -> Video:
        return self.vae.decode_raw(latent).float().clamp(-1, 1)


def sample(mean: Latent, logvar: Latent, rng: Rng) -> Latent:
    """A draw from N(mean, exp(logvar))."""
    latent = mean + (0.5 * logvar).exp() * randn(rng, *mean.shape[1:]).to(mean.device)
    # Also of a frozen encoder: PyTorch 2.13 crashes in the gradient of a channels-last GroupNorm whose input asks for none.
    return latent.requires_grad_()


def of_equal_length(batch: Batch, rng: Rng) -> Iterator[tuple[Video, Rng]]:
    """The batch's clips, those of one length together, each with the generator of the sample it belongs to."""
    cuts = [0, batch.video.shape[2]] if batch.groups is None else clip_starts(batch.groups)
    stacks: dict[int, list[Video]] = defaultdict(list)
    for start, stop in pairwise(cuts):
        stacks[stop - start].append(batch.video[:, :, start:stop])
    for clips in stacks.values():
        yield torch.cat(clips), [*rng] * len(clips)


@torch.no_grad()
def follow(vae: Vae, latents: Sequence[Float[Tensor, "_ z _ _ _"]]) -> None:
    """Move the scale of the codec towards the mean and deviation of each channel of the latents, if its encoder learns."""
    if not latents[0].requires_grad:
        return
    rows = torch.cat([rearrange(latent.float(), "b c t h w -> c (b t h w)") for latent in latents], dim=1)
    variance, mean = torch.var_mean(rows, dim=1, correction=0)
    # The variance of a mixture of old and new: that within each, and that between their means.
    variance = vae.std.square().lerp(variance, MOMENTUM) + MOMENTUM * (1 - MOMENTUM) * (mean - vae.mean).square()
    vae.mean.lerp_(mean, MOMENTUM)
    vae.std.copy_(variance.sqrt())
