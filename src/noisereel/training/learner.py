"""Modules and what moves their weights: an optimiser on some of them, and an average of those."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from noisereel.training.ema import Ema


class Learner:
    """AdamW and an average on those parameters of ``parts`` that are in ``groups``; the others are frozen.

    A group may bring its own ``lr``, ``betas`` or ``weight_decay``. ``whole`` makes one number of one that lies in shards.
    """

    def __init__(
        self,
        parts: Mapping[str, nn.Module],
        groups: list[dict[str, Any]],
        *,
        learning_rate: float,
        betas: tuple[float, float],
        weight_decay: float,
        whole: Callable[[Tensor], Tensor] = lambda value: value,
    ) -> None:
        self.parts, self._whole = parts, whole
        self.optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=betas, weight_decay=weight_decay, fused=True)
        self._full_rates = [group["lr"] for group in self.optimizer.param_groups]
        self.moving = self._name_moving()
        self.ema = Ema(list(self.moving.values()))

    def clip(self, norm: float) -> Tensor:
        """Scale the gradients of each group down to ``norm``, where they are longer, and return their length before.

        Group by group, because a discriminator's long gradient would take the autoencoder's away.
        """
        lengths = [self._whole(nn.utils.clip_grad_norm_(group["params"], norm)) for group in self.optimizer.param_groups]
        return lengths[0] if len(lengths) == 1 else torch.stack(lengths).norm()

    def move(self, rate: float, decay: float) -> None:
        """One step at this share of the full learning rate, and one of the average, which keeps ``decay`` of itself."""
        for group, full in zip(self.optimizer.param_groups, self._full_rates, strict=True):
            group["lr"] = full * rate
        self.optimizer.step()
        self.ema.update(decay)

    def train(self) -> None:
        """Training mode for the parts that hold anything that moves, and gradients for nothing else."""
        moving = {id(parameter) for parameter in self.moving.values()}
        for part in self.parts.values():
            part.train(any(id(parameter) in moving for parameter in part.parameters()))
            for parameter in part.parameters():
                parameter.requires_grad_(id(parameter) in moving)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Averaged weights, no dropout and no gradients within the block."""
        for part in self.parts.values():
            part.eval()
        try:
            with torch.no_grad(), self.ema.applied():
                yield
        finally:
            self.train()

    def state(self) -> dict[str, Tensor]:
        """``ema/<name>`` and ``adam/<slot>/<name>``, without the weights."""
        tensors = {}
        for (name, parameter), average in zip(self.moving.items(), self.ema.average, strict=True):
            tensors[f"ema/{name}"] = average
            tensors |= {f"adam/{slot}/{name}": value for slot, value in self.optimizer.state[parameter].items()}
        return tensors

    def like(self) -> dict[str, Tensor]:
        """For each name in ``state`` a tensor of the same shape and layout, also before the first step."""
        kinds = ("ema", "adam/exp_avg", "adam/exp_avg_sq")
        return {f"{kind}/{name}": parameter.detach() for kind in kinds for name, parameter in self.moving.items()}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of ``state``; the layout in memory follows the parameters."""
        for average, (name, parameter) in zip(self.ema.average, self.moving.items(), strict=True):
            average.copy_(tensors[f"ema/{name}"])
            for slot in ("step", "exp_avg", "exp_avg_sq"):
                saved = tensors.get(f"adam/{slot}/{name}")
                if saved is not None:  # a parameter that never had a gradient has no moments
                    like = parameter.new_empty(()) if slot == "step" else torch.empty_like(parameter)
                    self.optimizer.state[parameter][slot] = like.detach().copy_(saved)

    def _name_moving(self) -> dict[str, nn.Parameter]:
        """What the optimiser moves, by its name in the parts."""
        moved = {id(parameter) for group in self.optimizer.param_groups for parameter in group["params"]}
        named = {id(p): (f"{part}.{name}", p) for part, root in self.parts.items() for name, p in root.named_parameters()}
        assert moved <= named.keys(), "the target trains parameters that none of its parts holds"
        return dict(named[key] for key in named if key in moved)
