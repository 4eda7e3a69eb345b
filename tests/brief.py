"""Short training of whole plans: what the tests of recipes share."""

from dataclasses import replace
from pathlib import Path

import torch

from noisereel.recipes.plan import Plan
from noisereel.system import System
from noisereel.trainer import Phase, Trainer


def brief(plan: Plan, steps: int, **changes) -> list[Phase]:
    """The phases, a few steps of each. A warm-up takes a hundred steps."""
    quiet = dict(held_out=None, validate_every=10**6, preview_every=10**6, prompts=()) | changes
    return [replace(phase, clips=steps * phase.warmup // 100, **quiet) for phase in plan.phases()]


def run(phases: list[Phase], folder: Path, most: int = 10**6) -> None:
    """Train the phases one after the other, or stop after so many steps."""
    for phase in phases:
        trainer = Trainer(phase, folder / phase.name)
        for _ in trainer.run():
            most -= 1
            if not most:
                return
        trainer.adopt_average()


def state(system: System) -> dict[str, torch.Tensor]:
    """Every parameter as it is now."""
    return {f"{name}.{key}": t.clone() for name, part in system.parts().items() for key, t in part.named_parameters()}
