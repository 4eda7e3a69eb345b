"""Servers for the tests of this folder."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs noisereel[serve]")

import torch
from serving import Running, serving

from noisereel.pipeline import TextToVideo
from noisereel.recipes.plan import rebuild


@pytest.fixture(scope="session")
def server(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for all tests that leave it as it is."""
    with serving(tiny_folder, tmp_path_factory.mktemp("server"), "--queue", 50, "--per-key", 50) as running:
        yield running


@pytest.fixture
def start(tiny_folder: Path, tmp_path: Path) -> Callable:
    """Starts servers on one folder of data, one after the other."""
    return lambda *options: serving(tiny_folder, tmp_path / "data", *options)


@pytest.fixture(scope="session")
def upscaler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny upscaler, to twice the size and twice as many frames, whose network says something."""
    call = {"recipe": "upscaler", "arguments": {"size": "tiny", "space": 2, "time": 2, "steps": 2}}
    system = rebuild(call).system
    rng = torch.Generator().manual_seed(0)
    for stage in system.stages.values():
        for parameter in stage.net.parameters():
            if not parameter.any():
                torch.nn.init.normal_(parameter, std=0.05, generator=rng)
    folder = tmp_path_factory.mktemp("models") / "larger"
    TextToVideo(system=system, call=call, card="---\n---\n\n# Larger\n", about={"clips": 0}).save_pretrained(folder)
    return folder
