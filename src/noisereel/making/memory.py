"""How much memory a video takes, and how much there is: a size that cannot fit is refused before the work, in words."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from noisereel.stage import Stage
from noisereel.types import Known, generators

Shape = tuple[int, int, int]  # frames, height, width

HELD = 8  # copies of a window of frames in fp32 while it is upscaled: noise, hint, steps, pieces that wait
SMALL = 2**17  # pixels that nobody needs to measure
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What sampling one video takes at least, in bytes: a line through two small measurements.

    It leaves out what grows faster than the size and what single operations need inside; so what it refuses cannot fit.
    """

    fixed: float
    each: float  # pixel of a frame

    def __call__(self, shape: Shape) -> float:
        return self.fixed + self.each * prod(shape)


def demand(stage: Stage, frames: int, *, known: bool) -> Demand:
    """Measured on videos of ``frames`` frames, as small as the stage can make: a step of sampling, and decoding.

    ``known`` says whether frames will be given, which may take gradients.
    """
    _, height, width = stage.legal_multiples()
    shapes = [(frames, 2 * height, 2 * width), (frames, 2 * height, 4 * width)]
    few, many = (_peak(stage, shape, known) for shape in shapes)
    each = (many - few) / (prod(shapes[1]) - prod(shapes[0]))
    return Demand(fixed=max(0.0, few - each * prod(shapes[0])), each=each)


def needs_measuring(shape: Shape, count: int) -> bool:
    """Whether so many videos of the shape are more than fits anywhere."""
    return count * prod(shape) > SMALL


def samples_at_once(stage: Stage, shape: Shape, most: int, *, known: bool) -> int:
    """How many videos of the shape can be sampled together, at most ``most``.

    Raises:
        ValueError: not one; says what would fit.
    """
    if not needs_measuring(shape, most):
        return most
    needs, free = demand(stage, shape[0], known=known), available(stage.device)
    if needs(shape) <= free:
        return min(most, int(free // needs(shape)))
    _, *multiples = stage.legal_multiples()
    shrink = ((free - needs.fixed) / (needs(shape) - needs.fixed)) ** 0.5 if free > needs.fixed else 0.0
    height, width = (int(size * shrink) // by * by for size, by in zip(shape[1:], multiples, strict=True))
    fitting = f"{height}x{width} would fit" if height and width else "make it smaller"
    raise ValueError(too_large(f"{shape[0]} frames of {shape[1]}x{shape[2]}", needs(shape), free, fitting))


def check_file(length: int, size: tuple[int, int], scale: int) -> None:
    """Refuse a video that is too long, or enlarged too much, to be held while it is written.

    Raises:
        ValueError: says which scale or length would fit.
    """
    height, width = size
    free, pixels = available(torch.device("cpu")), length * height * width
    needed = pixels * (2 * 3 * 4 + 3 * scale**2)  # as numbers, joined from pieces, and as bytes
    if needed <= free:
        return
    most = int(max(0.0, (free / pixels - 24) / 3) ** 0.5)
    fitting = f"--scale {most} would fit" if 0 < most < scale else f"{int(length * free / needed)} frames would fit"
    raise ValueError(too_large(f"{length} frames of {height * scale}x{width * scale}", needed, free, fitting))


def check_window(frames: int, size: tuple[int, int], device: torch.device) -> None:
    """Refuse frames so large that a window of them cannot be upscaled.

    Raises:
        ValueError: says how many at once would fit.
    """
    height, width = size
    free, each = available(device), height * width * 3 * 4 * HELD
    if frames * each <= free:
        return
    most = int(free / each)
    fitting = f"--window {most} would fit" if most else "make them smaller first, or a lower --space"
    raise ValueError(too_large(f"{frames} frames of {height}x{width} at once", frames * each, free, fitting))


def too_large(what: str, needed: float, free: float, fitting: str) -> str:
    """One line."""
    return f"{what} need {gigabytes(needed)} of memory or more, and {gigabytes(free)} are free: {fitting}"


def gigabytes(number: float) -> str:
    return f"{number / 1e9:,.{1 if number < 1e10 else 0}f} GB"


def available(device: torch.device) -> float:
    """Bytes that are free there; infinite where nobody says."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return float("inf")
    limits = [int(text) for path in map(Path, _LIMITS) if path.exists() and (text := path.read_text().strip()).isdigit()]
    return float(min([_free_memory(), *limits]))


def _free_memory(described: Path = Path("/proc/meminfo")) -> float:
    """What Linux says could be had without swapping; elsewhere all there is."""
    if described.exists():
        facts = dict(line.split(":", 1) for line in described.read_text().splitlines())
        if "MemAvailable" in facts:
            return int(facts["MemAvailable"].split()[0]) * 1024
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return float("inf")


@contextmanager
def enough_memory(otherwise: str) -> Iterator[None]:
    """Say it in words when there is not."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # PyTorch has no class of its own for a CPU that runs out
        if isinstance(error, MemoryError) or "memory" in str(error).lower():
            raise ValueError(f"not enough memory for this size: {otherwise}") from error
        raise


def _peak(stage: Stage, shape: Shape, known: bool) -> int:
    """Bytes of tensors that live at once while a video of the shape is made."""
    given = None
    if known or stage.given is not None:
        given = Known(video=torch.zeros(1, 3, *shape, device=stage.device), frames=torch.arange(shape[0]) < 1)
    with _Alive() as alive:
        step = next(stage.sample([None], None, generators(0, [0]), shape=shape, known=given))
        stage.decode(step.x)
    return alive.most


class _Alive(TorchDispatchMode):
    """Counts the bytes of tensors made inside it, for as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for tensor in tree_leaves((args, kwargs)):
            self._see(tensor, made=False)  # weights, and whatever else was there before
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            self._see(tensor, made=True)
        return made

    def _see(self, tensor: object, *, made: bool) -> None:
        if not isinstance(tensor, Tensor) or id(storage := tensor.untyped_storage()) in self._seen:
            return
        size = storage.nbytes() if made else 0
        self._seen.add(id(storage))
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, id(storage), size)

    def _gone(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.now -= size
