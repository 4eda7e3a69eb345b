import ctypes
import math
import os
import time
from pathlib import Path

import pytest

from noisereel.data import guard
from noisereel.data.guard import Failure, guarded


def test_results_come_in_order_and_processes_are_kept() -> None:
    assert list(guarded(math.isqrt, [n * n for n in range(40)], processes=2)) == list(range(40))
    kept = {process.pid for process in guard._idle}
    assert list(guarded(math.isqrt, [81], processes=2)) == [9]
    assert {process.pid for process in guard._idle} == kept


def test_what_ends_a_process_costs_its_task_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(guarded(ctypes.string_at, [0], processes=1)) == [Failure("decoding it crashes the decoder (SIGSEGV)")]
    assert list(guarded(math.isqrt, [81], processes=1)) == [9], "another process has taken its place"
    assert list(guarded(math.isqrt, [-1], processes=1)) == [Failure("isqrt() argument must be nonnegative")]
    (full,) = guarded(bytearray, [guard.MEMORY + 1], processes=1)
    assert full == Failure("decoding it takes more than 4 GiB of memory")
    guard._farewell()
    guard._idle.clear()
    monkeypatch.setattr(guard, "PATIENCE", 0.5)
    begun = time.monotonic()
    assert list(guarded(time.sleep, [600], processes=1)) == [Failure("decoding it gave nothing for 0.5 seconds")]
    assert time.monotonic() - begun < 30


def where(_: int) -> str:
    return os.getcwd()


def test_relative_names_mean_what_they_mean_to_the_one_who_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert list(guarded(where, [0, 1], processes=1)) == [str(tmp_path / name)] * 2
