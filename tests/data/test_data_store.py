"""Records by key: whatever happens to processes and disks, what is found is what was kept."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noisereel.data.store import KEY, Store


def key(number: int) -> bytes:
    return number.to_bytes(KEY, "big")


def record(number: int) -> bytes:
    return number.to_bytes(4, "big") * (number % 50)


def test_what_one_process_keeps_another_finds(tmp_path: Path) -> None:
    one, other = Store(tmp_path / "store"), Store(tmp_path / "store")
    one.add({key(1): record(1), key(2): record(2)})
    assert key(1) not in other
    other.refresh()
    assert [other.get(key(number)) for number in (1, 2, 3)] == [record(1), record(2), None]
    copy = pickle.loads(pickle.dumps(one))
    copy.add({key(3): record(3)})
    one.refresh()
    assert one.get(key(3)) == record(3)
    assert len(list((tmp_path / "store").glob("*.records"))) == 2  # a file for each that adds


def _writes(folder: Path, first: int) -> None:
    store = Store(folder)
    for number in range(first, first + 100_000):
        store.add({key(number): record(number)})


def test_processes_that_are_killed_lose_at_most_what_they_were_writing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_writes, args=(tmp_path, first)) for first in (0, 1_000_000)]
    for writer in writers:
        writer.start()
    until = time.monotonic() + 20
    while len(Store(tmp_path)) < 200 and time.monotonic() < until:
        time.sleep(0.05)
    for writer in writers:
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    store = Store(tmp_path)
    for first in (0, 1_000_000):
        there = [number in store for number in map(key, range(first, first + 100_000))]
        count = sum(there)
        assert count
        assert there[:count] == [True] * count, "no gaps: only the last may be missing"
        assert all(store.get(key(number)) == record(number) for number in range(first, first + count))
    assert all(store.verify())


@settings(deadline=None, max_examples=30)
@given(damage=st.integers(0, 399), value=st.integers(1, 255))
def test_damage_is_never_handed_out(tmp_path_factory: pytest.TempPathFactory, damage: int, value: int) -> None:
    folder = tmp_path_factory.mktemp("store")
    Store(folder).add({key(number): bytes([number]) * 40 for number in range(10)})
    (path,) = folder.glob("*.records")
    content = bytearray(path.read_bytes())
    content[damage] ^= value
    path.write_bytes(content)
    bad = damage // 40
    assert [Store(folder).get(key(number)) is None for number in range(10)] == [number == bad for number in range(10)]
    assert list(Store(folder).verify()) == [number != bad for number in range(10)]
    again = Store(folder)
    assert len(again) == 9
    again.add({key(bad): b"anew"})
    assert Store(folder).get(key(bad)) == b"anew"
    assert all(Store(folder).verify())


@settings(deadline=None, max_examples=30)
@given(st.binary(max_size=300))
def test_a_damaged_list_is_read_as_far_as_it_makes_sense(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    folder = tmp_path_factory.mktemp("store")
    Store(folder).add({key(1): b"one"})
    (path,) = folder.glob("*.list")
    path.write_bytes(noise + b"\n" + path.read_bytes())
    assert Store(folder).get(key(1)) == b"one"
