"""Which device to compute on, and what the processor is good at."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# What decides how fast a processor multiplies matrices, as Linux names it.
FEATURES = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
    "sve",
)


def pick(name: str | None) -> torch.device:
    """The device of that name, or the best there is.

    Raises:
        ValueError: this machine, or this build of PyTorch, has no such device.
    """
    import torch

    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        there = ", ".join(["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))])
        raise ValueError(f"there is no device {name!r} here; there is {there}") from error


def computes_in_bf16(device: torch.device) -> bool:
    """Whether bf16 is the fast way there: on accelerators, and on processors with instructions for it."""
    return device.type != "cpu" or bool({"avx512_bf16", "amx_bf16"} & set(processor()[1]))


def processor(described: Path = Path("/proc/cpuinfo")) -> tuple[str, list[str]]:
    """The processor's name, and those of ``FEATURES`` that it has; Linux says so in a file, elsewhere they stay unknown."""
    if not described.exists():
        return platform.processor() or platform.machine(), []
    facts = dict(line.split(":", 1) for line in described.read_text().splitlines() if ":" in line)
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    return facts.get("model name", platform.machine()), [feature for feature in FEATURES if feature in flags]
