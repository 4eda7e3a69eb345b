"""How far apart two sets of videos are, by their features."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

Rows = Float[Tensor, "n f"]
Others = Float[Tensor, "m f"]


def frechet(one: Rows, other: Others) -> float:
    """Squared Fréchet distance of the Gaussians that fit two sets of features (Heusel et al. 2017, eq. 6).

    It is of this project's own features and comparable with nothing else. It is biased upwards, more so with fewer videos:
    compare it with that between two sets of true videos of the same number.
    """
    one, other = one.double(), other.double()
    first, second = one.T.cov(), other.T.cov()
    # The trace of the root of a product is the sum of the roots of its eigenvalues, which are those of a symmetric product.
    values, vectors = torch.linalg.eigh(first)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    apart = (one.mean(0) - other.mean(0)).square().sum()
    return float(apart + first.trace() + second.trace() - 2 * shared)


def kernel(one: Rows, other: Others) -> float:
    """Squared maximum mean discrepancy with the kernel (x.y / f + 1)^3 (Binkowski et al. 2018), unbiased: 0 is expected of two
    sets of the same kind, and values below it happen."""
    one, other = one.double(), other.double()

    def similar(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def within(a: Tensor) -> Tensor:
        table = similar(a, a)
        return (table.sum() - table.trace()) / (len(a) * (len(a) - 1))

    return float(within(one) + within(other) - 2 * similar(one, other).mean())


def nearest(one: Rows, other: Others) -> Float[Tensor, " n"]:
    """Of each row of ``one``, the distance to the nearest of ``other``: small where a video was copied."""
    return torch.cdist(one, other).amin(dim=1)
