import ctypes
import math
import time

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
