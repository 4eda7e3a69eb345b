"""``noisereel env``: what a bug report should say about the machine."""

from __future__ import annotations

import os
import platform
import sys
from argparse import Namespace
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from noisereel import __version__
from noisereel.cli.parsing import Parser
from noisereel.making.device import processor

PACKAGES = (
    "torch", "numpy", "einops", "jaxtyping", "safetensors", "huggingface-hub", "tokenizers", "transformers", "diffusers", "av",
    "Pillow", "jsonargparse", "rich",
)  # fmt: skip


def parse(arguments: Sequence[str]) -> Namespace | None:
    """The verb's options."""
    return Parser("env", "Versions, processor features and devices, to paste into a bug report.").parse(arguments)


def run(options: Namespace) -> dict[str, Any]:
    """Everything there is to say, as one flat object."""
    import torch

    from noisereel.pipeline import shipped

    model, features = processor()
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
