"""Jobs on disk: the order, the batches, each ended once, nothing lost with the process."""

import threading
from pathlib import Path

import pytest

from noisereel.serve.store import Limits, QueueFull, Store

PLENTY = Limits(queue=1000, per_owner=1000)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "jobs.sqlite")


def add(store: Store, kind: str = "a", owner: str = "", limits: Limits = PLENTY, **more: str) -> str:
    job, _ = store.add(owner, {"model": "tiny"}, kind, limits, **more)
    return job.id


def test_the_oldest_first_and_with_it_those_of_its_kind(store: Store) -> None:
    ids = [add(store, kind) for kind in "abaaba"]
    assert [job.id for job in store.claim(3)] == [ids[0], ids[2], ids[3]]
    assert [job.id for job in store.claim(3)] == [ids[1], ids[4]]
    assert [job.id for job in store.claim(3)] == [ids[5]]
    assert store.claim(3) == []


def test_a_job_that_killed_its_worker_goes_alone(store: Store) -> None:
    first, second = add(store), add(store)
    store.claim(2)
    store.release([first, second], died=True)
    assert [job.id for job in store.claim(2)] == [first]
    assert store.get(first).attempts == 1


def test_a_job_ends_once(store: Store) -> None:
    id = add(store)
    assert not store.complete(id, {})  # it is not in progress
    store.claim(1)
    assert store.complete(id, {"frames": 4})
    assert not store.complete(id, {"frames": 5})
    assert not store.fail(id, "cancelled", "too late", also_queued=True)
    assert store.get(id).result == {"frames": 4}


def test_cancelled_while_it_ran(store: Store) -> None:
    id = add(store)
    store.claim(1)
    assert store.fail(id, "cancelled", "enough")
    assert not store.complete(id, {})
    store.release([id], died=True)
    assert store.get(id).state == "failed"


def test_another_process_sees_what_was_accepted_and_starts_over_what_ran(store: Store, tmp_path: Path) -> None:
    ids = [add(store) for _ in range(3)]
    store.claim(1)
    other = Store(tmp_path / "jobs.sqlite")  # while the first is open, as after a kill: nothing was closed in order
    assert other.release_all() == 1
    assert [job.id for job in other.claim(9)] == ids


def test_a_repeated_request_is_the_same_job(store: Store) -> None:
    first = add(store, once="key")
    assert add(store, once="key") == first
    assert add(store, once="key", owner="somebody else") != first
    assert add(store) != add(store)


def test_limits_of_the_queue_and_of_an_owner(store: Store) -> None:
    limits = Limits(queue=3, per_owner=2)
    for _ in range(2):
        add(store, owner="ann", limits=limits)
    with pytest.raises(QueueFull) as full:
        add(store, owner="ann", limits=limits)
    assert full.value.of_owner
    add(store, owner="bob", limits=limits)
    with pytest.raises(QueueFull) as full:
        add(store, owner="bob", limits=limits)
    assert not full.value.of_owner
    store.claim(9)  # what runs leaves the queue but is still its owner's
    add(store, owner="bob", limits=limits)
    with pytest.raises(QueueFull):
        add(store, owner="ann", limits=limits)


def test_pages_meet_each_of_the_owners_jobs_once(store: Store) -> None:
    ids = [add(store, owner=owner) for owner in ["ann", "bob"] * 7]
    for newest_first in (True, False):
        seen: list[str] = []
        more = True
        while more:
            jobs, more = store.page("ann", limit=3, after=seen[-1] if seen else None, newest_first=newest_first)
            seen += [job.id for job in jobs]
        assert seen == (ids[::-1] if newest_first else ids)[int(newest_first) :: 2]
    with pytest.raises(KeyError):
        store.page("ann", limit=3, after=ids[1])  # bob's


def test_many_threads_claim_each_job_once(store: Store) -> None:
    ids = {add(store) for _ in range(60)}
    claimed: list[str] = []

    def work() -> None:
        while jobs := store.claim(4):
            claimed.extend(job.id for job in jobs)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == 60
    assert set(claimed) == ids
