"""Whether a server could start here: each thing it needs, tried and named."""

from __future__ import annotations

import importlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from noisereel.serve.config import Config

ROOM = 1e9  # bytes that should be free


@dataclass(frozen=True)
class Check:
    """What was tried; ``problem`` is None where it went well."""

    name: str
    said: str
    problem: str | None = None


def checks(config: Config, host: str, port: int) -> Iterator[Check]:
    """Packages, disk, port, content credentials, and the models, in the order of what they cost."""
    yield _tried("packages", _packages)
    yield _tried("disk", lambda: _disk(config))
    yield _tried("port", lambda: _port(host, port))
    if config.signing:
        yield _tried("signing", lambda: _signing(config.signing or ("", "")))
    for name, place in config.models:
        yield _tried(f"model {name}", lambda place=place: _model(place))  # type: ignore[misc]


def _tried(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, check())
    except (ValueError, OSError, ImportError) as error:
        return Check(name, "", " ".join(str(error).split()))


def _packages() -> str:
    found = []
    for name in ("fastapi", "uvicorn", "multipart", "prometheus_client"):
        module = importlib.import_module(name if name != "multipart" else "python_multipart")
        found.append(f"{name} {getattr(module, '__version__', '')}".strip())
    return ", ".join(found)


def _disk(config: Config) -> str:
    config.data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=config.data):
        free = shutil.disk_usage(config.data).free
    if free < ROOM:
        raise ValueError(f"{free / 1e9:.1f} GB are free in {config.data}, and {ROOM / 1e9:.0f} should be")
    return f"{free / 1e9:.0f} GB are free in {config.data}"


def _port(host: str, port: int) -> str:
    from noisereel.serve.run import bound

    with bound(host, port) as listener:
        return f"{host}, port {listener.getsockname()[1]} is free"


def _signing(files: tuple[str, str]) -> str:
    from noisereel.making.finish import signer

    signer(files).check()
    return f"content credentials are signed with {files[0]}"


def _model(place: str) -> str:
    from noisereel.pipeline import TextToVideo

    frames, height, width = TextToVideo.from_pretrained(place).system.last.shape
    return f"opens; makes {frames} frames of {width}x{height}"
