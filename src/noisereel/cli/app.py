"""The command ``noisereel``: finds the verb, runs it, prints what it returns, and turns a user's mistake into one line."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from noisereel import __version__
from noisereel.cli.parsing import close_match

# Verb -> what it does. Each is a module of this folder, imported only when it is asked for, so that help costs no torch.
VERBS = {
    "generate": "make a video (or an image) from a sentence",
    "upscale": "make a clip larger, or give it more frames",
    "decode": "finish a video that was sampled but could not be decoded",
    "train": "train a recipe, from nothing or from where it stopped",
    "prepare": "choose the scenes of your videos that are worth training on, and encode them",
    "data": "say what a folder of videos holds, or write it in another layout",
    "distill": "teach a trained model to sample in few steps",
    "evaluate": "measure how well a model follows its prompts",
    "compare": "measure several models alike, in one report",
    "serve": "a web page and an API that make videos",
    "show": "what a model or a generated file says about itself",
    "env": "versions, processor features and devices, for a bug report",
}

HELP = """usage: noisereel VERB ... [--json]

Text-to-video diffusion: generate with the shipped model, or train your own.

{verbs}

  noisereel VERB --help      a verb's own options
  noisereel --version
  noisereel generate "a red circle moves to the left" -o circle.mp4"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0; 2 after a user's mistake, told in one line; 130 when interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    listen()
    # Read when torch is loaded. Threads that wait by spinning made a 5 s generation take up to 116 s on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = remarked
            return dispatch(given)
    except KeyboardInterrupt as interruption:
        return failed(str(interruption) or "interrupted", 130)
    except BrokenPipeError:  # the reader of our output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError) as error:
        return failed(str(error) or type(error).__name__, 2)


def dispatch(given: list[str]) -> int:
    """Find the verb and run it."""
    if not given or given[0] in ("-h", "--help", "help"):
        print(HELP.format(verbs="\n".join(f"  {verb:10} {what}" for verb, what in VERBS.items())))
        return 0 if given else 2
    if given[0] == "--version":
        print(f"noisereel {__version__}")
        return 0
    verb, *rest = given
    if verb not in VERBS:
        guess = close_match(verb, [*VERBS, "--help", "--version"]) or f"; the verbs are {', '.join(VERBS)}"
        raise ValueError(f"there is no verb {verb!r}{guess}")
    module: Any = importlib.import_module(f"noisereel.cli.{verb}")
    options = module.parse(rest)
    if options is None:  # help was asked for, and given
        return 0
    result = module.run(options)
    if result is not None:  # of several processes one speaks
        print(json.dumps(result) if options.json else module.told(result), flush=True)
    return 0


def remarked(message: Warning | str, *_: Any, **__: Any) -> None:
    """A warning as one line on stderr, without the place in the code that it came from."""
    print(f"noisereel: {' '.join(str(message).split())}", file=sys.stderr)


class Told(logging.Handler):
    """What the library logs as lines on stderr, each once: several sources may look at the same folder."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        line = " ".join(record.getMessage().split())
        if line not in self.lines:
            self.lines.add(line)
            print(f"noisereel: {line}", file=sys.stderr)


def listen() -> None:
    """Tell what the library logs from here on."""
    logger = logging.getLogger("noisereel")
    logger.handlers = [Told()]
    logger.setLevel(logging.INFO)


def failed(problem: str, code: int) -> int:
    """Say what went wrong, in one line on stderr."""
    print(f"noisereel: {' '.join(problem.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":  # torchrun -m noisereel.cli.app
    sys.exit(main())
