"""What the loop needs from the machine around it: signals to stop, and a compiler."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from torch import nn


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
