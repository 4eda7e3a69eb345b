"""Servers for the tests of this folder."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs noisereel[serve]")

from serving import Running, serving


@pytest.fixture(scope="session")
def server(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One server for all tests that leave it as it is."""
    with serving(tiny_folder, tmp_path_factory.mktemp("server"), "--queue", 50, "--per-key", 50) as running:
        yield running


@pytest.fixture
def start(tiny_folder: Path, tmp_path: Path) -> Callable:
    """Starts servers on one folder of data, one after the other."""
    return lambda *options: serving(tiny_folder, tmp_path / "data", *options)
