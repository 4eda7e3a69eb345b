"""What the loop needs from the machine around it: signals to stop, a compiler, and memory."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def stopping_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Within the block the first Ctrl-C or SIGTERM calls ``stop``; the second does what it did before."""
    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        stop()
        signal.signal(number, before[number])

    before = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def compile_blocks(parts: Iterable[nn.Module], device: torch.device) -> None:
    """Compile the blocks of every part that has them, in place; names and weights stay as they are."""
    if device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++"))):
        warnings.warn("training without torch.compile, which needs a C++ compiler on a CPU: install g++", stacklevel=2)
        return
    for part in parts:
        for block in getattr(part, "blocks", ()):
            block.compile()


def recompute_blocks(parts: Iterable[nn.Module]) -> None:
    """Let the blocks of every part keep their inputs alone, and run again in the backward pass: less memory, a third more work.

    In place; names and weights stay as they are.
    """
    for part in parts:
        for block in getattr(part, "blocks", ()):
            if "forward" not in vars(block):  # not done before, by an earlier phase
                block.forward = partial(checkpoint, block.forward, use_reentrant=False)
