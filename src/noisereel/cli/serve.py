"""``noisereel serve``: a web page and an API that make videos."""

from __future__ import annotations

import ipaddress
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noisereel.cli.parsing import Parser

if TYPE_CHECKING:
    from noisereel.serve.config import Config


def parse(arguments: Sequence[str]) -> Namespace | None:
    """The verb's options."""
    parser = Parser("serve", "A web page and an OpenAI-shaped API that make videos.")
    add = parser.add_argument
    add("--model", action="append", metavar="[NAME=]MODEL", help="a shipped model, a folder, or a name on the Hugging Face hub, and what it is called; again for more; the shipped ones if not given")  # fmt: skip # noqa: E501
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="where to listen; others than this machine need --api-key-file")
    add("--port", type=int, default=8000, metavar="N", help="0 picks a free one")
    add("--api-key-file", type=Path, metavar="FILE", help="who may use it: NAME KEY on each line")
    add("--data", type=Path, default=Path("noisereel-data"), metavar="FOLDER", help="jobs and their results")
    add("--device", action="append", metavar="NAME", help="cpu, cuda:0, ...: a worker on each; again for more; the best there is if not given")  # fmt: skip # noqa: E501
    add("--engine", choices=("local", "ray"), default="local", help="where the workers are: processes here, or deployments of Ray Serve")  # fmt: skip # noqa: E501
    add("--workers", type=int, default=1, metavar="N", help="of --engine ray: how many")
    add("--ray", metavar="ADDRESS", help="of --engine ray: the cluster; one of this machine is started if not given")
    add("--queue", type=int, default=100, metavar="N", help="jobs that wait at most")
    add("--per-key", type=int, default=20, metavar="N", help="jobs of one key that wait or run at most")
    add("--batch", type=int, default=4, metavar="N", help="jobs sampled together at most")
    add("--patience", type=float, default=60.0, metavar="SECONDS", help="a worker that is silent for so long is started again")
    add("--step-limit", type=float, default=1800.0, metavar="SECONDS", help="and one that makes no step in so long")
    add("--keep-days", type=float, default=7.0, metavar="DAYS", help="how long results are kept")
    add("--disk", type=float, default=10.0, metavar="GB", help="how much room results may take: the oldest go first")
    add("--upload", type=float, default=32.0, metavar="MB", help="how large a request may be")
    add("--signing", nargs=2, metavar=("CERTIFICATES", "KEY"), help="sign content credentials (C2PA) into each file, with these PEM files")  # fmt: skip # noqa: E501
    add("--check", action="store_true", help="see whether it could start, say so, and end")
    return parser.parse(arguments)


def run(options: Namespace) -> dict[str, Any]:
    """Serve until it is told to stop.

    Raises:
        ValueError: options that make no sense, a public address without keys, a port that is taken, a model that does not open.
    """
    check(options)
    from noisereel.serve.keys import Keys

    config, keys = configured(options), Keys.read(options.api_key_file)
    if not options.check:
        from noisereel.serve.apart import warm_up

        warm_up()  # while the rest is imported
    try:
        from noisereel.serve.run import serve
    except ImportError as error:
        raise ValueError(f"serve needs packages that are not here ({error.name}): pip install 'noisereel[serve]'") from error
    if options.check:
        return {"checks": checked(config, options.host, options.port)}
    if config.signing:
        from noisereel.making.finish import signer

        signer(config.signing).check()
    serve(config, keys, options.host, options.port)
    return {"stopped": True}


def checked(config: Config, host: str, port: int) -> dict[str, str]:
    """What was found of each thing that a server needs.

    Raises:
        ValueError: says what is wrong, after saying what is not.
    """
    from noisereel.serve.checks import checks

    done = list(checks(config, host, port))
    problems = [one for one in done if one.problem is not None]
    if problems:
        for one in done:
            if one.problem is None:
                print(f"noisereel: {one.name}: {one.said}", file=sys.stderr)
        raise ValueError("; ".join(f"{one.name}: {one.problem}" for one in problems))
    return {one.name: one.said for one in done}


def told(result: dict[str, Any]) -> str:
    """What was checked."""
    return "\n".join([f"{name:16}{said}" for name, said in result.get("checks", {}).items()]) or "stopped"


def check(options: Namespace) -> None:
    """Refuse options that make no sense, before anything is loaded.

    Raises:
        ValueError: names the option and what it takes.
    """
    for name in ("workers", "queue", "per_key", "batch", "patience", "step_limit", "keep_days", "disk", "upload"):
        if not getattr(options, name) > 0:
            raise ValueError(f"--{name.replace('_', '-')} takes a number above 0, not {getattr(options, name)}")
    if options.workers != 1 and options.engine != "ray":
        raise ValueError("--workers goes with --engine ray; here each --device has one worker: name them")
    if options.engine == "ray" and find_spec("ray") is None:
        raise ValueError("--engine ray needs Ray: pip install 'noisereel[ray]'")
    if not 0 <= options.port < 65536:
        raise ValueError(f"--port takes 0 to 65535, not {options.port}")
    if not is_loopback(options.host) and options.api_key_file is None:
        raise ValueError(f"{options.host} can be reached by others: say who may use it with --api-key-file FILE")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def configured(options: Namespace) -> Config:
    """The server's configuration."""
    from noisereel.serve.config import MEGABYTE, Config

    return Config(
        data=options.data.absolute(),
        models=named(options.model or ["default", *shipped_besides_default()]),
        devices=tuple(options.device or (None,)) * options.workers,
        engine=options.engine,
        ray=options.ray,
        queue=options.queue,
        per_key=options.per_key,
        batch=options.batch,
        patience=options.patience,
        step_limit=options.step_limit,
        keep_days=options.keep_days,
        disk=int(options.disk * 1e9),
        signing=tuple(os.path.abspath(path) for path in options.signing) if options.signing else None,
        body=int(options.upload * MEGABYTE),
    )


def named(models: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """What each model is called, and where it is: ``NAME=MODEL``, else a shipped model's own name or the folder's.

    Raises:
        ValueError: two of one name.
    """
    pairs = []
    for given in models:
        name, equals, place = given.partition("=")
        pairs.append((name, place) if equals else (os.path.basename(given.rstrip("/")) or given, given))
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"two models are called {max(names, key=names.count)!r}: call one otherwise, --model NAME=MODEL")
    return tuple(pairs)


def shipped_besides_default() -> list[str]:
    """The other shipped models, found without loading torch."""
    import noisereel

    here = Path(noisereel.__file__).parent
    folders = [here / "weights", here.parents[1] / "weights"]
    return sorted({index.parent.name for folder in folders for index in folder.glob("*/model_index.json")} - {"default"})
