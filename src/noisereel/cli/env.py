"""``noisereel env``: what a bug report should say about the machine."""

from __future__ import annotations

import os
import platform
import sys
from argparse import Namespace
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from noisereel import __version__
from noisereel.cli.parsing import Parser

PACKAGES = (
    "torch", "numpy", "einops", "jaxtyping", "safetensors", "huggingface-hub", "tokenizers", "transformers", "diffusers", "av",
    "Pillow", "jsonargparse", "rich",
)  # fmt: skip
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


def parse(arguments: Sequence[str]) -> Namespace | None:
    """The verb's options."""
    return Parser("env", "Versions, processor features and devices, to paste into a bug report.").parse(arguments)


def run(options: Namespace) -> dict[str, Any]:
    """Everything there is to say, as one flat object."""
    import torch

    from noisereel.pipeline import shipped

    model, features = processor(Path("/proc/cpuinfo"))
    return {
        "noisereel": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": model,
        "features": features,
        "cores": os.cpu_count(),
        "memory_gb": memory(),
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or ["cpu"],
        "models": shipped(),
        "packages": {name: installed(name) for name in PACKAGES},
    }


def told(result: dict[str, Any]) -> str:
    """One fact a line."""
    facts = {**result, **result["packages"]}
    del facts["packages"]
    return "\n".join(f"{name:16} {', '.join(value) if isinstance(value, list) else value}" for name, value in facts.items())


def processor(described: Path) -> tuple[str, list[str]]:
    """The processor's name, and those of ``FEATURES`` that it has; Linux says so in a file, elsewhere they stay unknown."""
    if not described.exists():
        return platform.processor() or platform.machine(), []
    facts = dict(line.split(":", 1) for line in described.read_text().splitlines() if ":" in line)
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    return facts.get("model name", platform.machine()), [feature for feature in FEATURES if feature in flags]


def memory() -> float | None:
    """Gigabytes of memory, where the system says."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    except (AttributeError, ValueError, OSError):
        return None


def installed(package: str) -> str:
    """The version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
