"""What a recipe returns, and where the recipes are found by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from noisereel import checkpoint
from noisereel.distill import distilled
from noisereel.system import System
from noisereel.trainer import Phase

RECIPES = {
    name: f"noisereel.recipes.{name}" for name in ("vdm", "make_a_video", "imagen_video", "video_ldm", "sora", "upscaler")
}
CARRIED = ("text",)  # arguments that name another model, of which something is taken and kept


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A system, and the phases that train it, made when asked for: opening a checkpoint touches no training data."""

    system: System
    phases: Callable[[], list[Phase]]


def recipe(name: str) -> Callable[..., Plan]:
    """The recipe of that name.

    Raises:
        ValueError: there is none; names those there are.
    """
    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}; the recipes are {', '.join(RECIPES)}")
    return getattr(importlib.import_module(RECIPES[name]), name)


@contextmanager
def initialised(seed: int) -> Iterator[None]:
    """Networks built inside have initial weights that depend on ``seed`` alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def rebuild(call: dict[str, Any], folder: Path | None = None) -> Plan:
    """The plan of a stored recipe call, ``{"recipe": name, "arguments": {...}}``.

    A checkpoint carries what its model took from another, so that it is rebuilt from its own ``folder`` alone.

    Raises:
        ValueError: an unknown recipe, an argument it does not take, or one of the wrong kind.
    """
    arguments = complete(call)["arguments"]
    if folder is not None:
        arguments |= {name: str(folder) for name in CARRIED if arguments.get(name)}
    try:
        return recipe(call["recipe"])(**arguments)
    except TypeError as error:
        raise ValueError(f"recipe {call['recipe']} cannot be called with {arguments}: {error}") from error


def reopened(folder: Path) -> System:
    """The system of a model folder that one of our recipes made, with its weights.

    Raises:
        ValueError: as ``rebuild``; or weights that do not fit.
    """
    index = checkpoint.read_index(folder)
    system = rebuild({"recipe": index["recipe"], "arguments": index.get("arguments", {})}, folder).system
    checkpoint.load(folder, system.parts())
    return as_distilled(system, index.get("distilled", {}))


def as_distilled(system: System, steps: Mapping[str, int]) -> System:
    """The system with those of its stages that were distilled, by name, sampled in so many ``steps``."""
    stages = {name: distilled(stage, steps[name]) if name in steps else stage for name, stage in system.stages.items()}
    return System(stages=stages)


def complete(call: dict[str, Any]) -> dict[str, Any]:
    """The call with every argument named, defaults too.

    Raises:
        ValueError: as ``rebuild``.
    """
    legal = inspect.signature(recipe(call["recipe"])).parameters
    unknown = sorted(set(call["arguments"]) - set(legal))
    if unknown:
        raise ValueError(f"recipe {call['recipe']} takes no {', '.join(unknown)}; it takes {', '.join(legal)}")
    defaults = {name: parameter.default for name, parameter in legal.items()}
    return {"recipe": call["recipe"], "arguments": defaults | call["arguments"]}


def sized(sizes: Mapping[str, dict[str, Any]], size: str, **asked: float) -> dict[str, Any]:
    """The row of a recipe's sizes, in which what was asked for takes the place of its own numbers; 0 asks for nothing.

    Raises:
        ValueError: there is no such size; names those there are.
    """
    if size not in sizes:
        raise ValueError(f"there is no size {size!r}; the sizes are {', '.join(sizes)}")
    return sizes[size] | {name: value for name, value in asked.items() if value}


def paced(clips: int, batch: int) -> dict[str, Any]:
    """The settings of a phase that follow from its length."""
    return dict(clips=clips, warmup=100 * batch, ema=clips // 20, validate_every=-(-clips // 10), preview_every=-(-clips // 5))
