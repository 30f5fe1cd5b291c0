"""Counts in a real Redis: exactly once, and noticed where they are not."""

import threading

import numpy as np
import numpy.typing as npt
import pytest

from services.counter.counts import RANGE, CountStore, Sparse
from services.counter.store import Store, run_prefix

RUN = "run-1"
SIZE = 2 * RANGE + 100
SIZES = {"all": SIZE}


def sparse(seed: int, hits: int = 5000) -> Sparse:
    ids = np.random.default_rng(seed).integers(0, SIZE, hits)
    found, counts = np.unique(ids, return_counts=True)
    return found.astype(np.uint32), counts.astype(np.uint32)


def dense(*parts: Sparse) -> npt.NDArray[np.int64]:
    total = np.zeros(SIZE, np.int64)
    for ids, counts in parts:
        total[ids] += counts
    return total


def tasks(*numbers: int) -> npt.NDArray[np.int64]:
    return np.array(numbers, np.int64)


def test_counts_add_up_over_tasks(count_store: CountStore) -> None:
    parts = [sparse(seed) for seed in range(4)]
    for task, part in enumerate(parts):
        assert count_store.add(RUN, task, SIZES, {"all": part}) == 0
    assert np.array_equal(count_store.read(RUN, "all", SIZE), dense(*parts))
    assert count_store.wrong_marks(RUN, "all", SIZE, tasks(0, 1, 2, 3)) == (0, 0)


def test_a_repeated_delivery_changes_nothing(count_store: CountStore) -> None:
    part = sparse(1)
    count_store.add(RUN, 7, SIZES, {"all": part})
    assert count_store.add(RUN, 7, SIZES, {"all": part}) == 3, "all three ranges were there"
    assert np.array_equal(count_store.read(RUN, "all", SIZE), dense(part))


def test_a_delivery_that_broke_off_is_completed_by_its_repetition(
    count_store: CountStore, store: Store
) -> None:
    part = sparse(2)
    count_store.add(RUN, 0, SIZES, {"all": part})
    prefix = run_prefix(RUN)
    store.redis.delete(f"{prefix}counts:all:1", f"{prefix}marks:all:1")
    assert count_store.wrong_marks(RUN, "all", SIZE, tasks(0)) == (1, 0)
    assert count_store.add(RUN, 0, SIZES, {"all": part}) == 2
    assert np.array_equal(count_store.read(RUN, "all", SIZE), dense(part))


def test_a_task_without_hits_leaves_its_mark(count_store: CountStore) -> None:
    count_store.add(RUN, 0, SIZES, {})
    assert count_store.wrong_marks(RUN, "all", SIZE, tasks(0)) == (0, 0)
    assert not count_store.read(RUN, "all", SIZE).any()


def test_a_range_that_came_back_older_is_noticed(count_store: CountStore, store: Store) -> None:
    count_store.add(RUN, 0, SIZES, {"all": sparse(1)})
    prefix = run_prefix(RUN)
    keys = [f"{prefix}counts:all:0", f"{prefix}marks:all:0"]
    older = [store.redis.get(key) for key in keys]
    count_store.add(RUN, 1, SIZES, {"all": sparse(2)})
    for key, value in zip(keys, older, strict=True):
        store.redis.set(key, value)
    assert count_store.wrong_marks(RUN, "all", SIZE, tasks(0, 1)) == (1, 0)


def test_replacing_puts_exact_counts_and_marks(count_store: CountStore) -> None:
    count_store.add(RUN, 3, SIZES, {"all": sparse(1)})
    counts = dense(sparse(5), sparse(6))
    assert count_store.replace(RUN, {"all": counts}, tasks(0, 2), settled=True) == 0
    assert np.array_equal(count_store.read(RUN, "all", SIZE), counts)
    assert count_store.wrong_marks(RUN, "all", SIZE, tasks(0, 2)) == (0, 0)
    assert count_store.wrong_marks(RUN, "all", SIZE, tasks(0, 3)) == (6, 3)


def test_a_range_that_an_open_task_has_added_to_is_left(
    count_store: CountStore, store: Store
) -> None:
    part, early = sparse(1), sparse(2)
    count_store.add(RUN, 0, SIZES, {"all": part})
    count_store.add(RUN, 1, SIZES, {"all": early})  # half counted: in the last range only
    prefix = run_prefix(RUN)
    for number in (0, 1):
        store.redis.delete(f"{prefix}counts:all:{number}", f"{prefix}marks:all:{number}")
    assert count_store.replace(RUN, {"all": dense(part)}, tasks(0), settled=False) == 1
    count_store.add(RUN, 1, SIZES, {"all": early})
    assert np.array_equal(count_store.read(RUN, "all", SIZE), dense(part, early))
    assert count_store.wrong_marks(RUN, "all", SIZE, tasks(0, 1)) == (0, 0)


def test_replacing_beside_counting_loses_and_repeats_nothing(count_store: CountStore) -> None:
    parts, done = [sparse(seed, 500) for seed in range(60)], list[int]()

    def count_all() -> None:
        for task, part in enumerate(parts):
            count_store.add(RUN, task, SIZES, {"all": part})
            done.append(task)

    thread = threading.Thread(target=count_all)
    thread.start()
    while thread.is_alive():
        counted = list(done)
        counts = dense(*(parts[task] for task in counted))
        count_store.replace(RUN, {"all": counts}, tasks(*counted), settled=False)
    assert len(done) == len(parts)
    assert np.array_equal(count_store.read(RUN, "all", SIZE), dense(*parts))
    assert count_store.wrong_marks(RUN, "all", SIZE, tasks(*done)) == (0, 0)


@pytest.mark.parametrize("size", [1, RANGE - 1, RANGE, RANGE + 1])
def test_any_number_of_entries(count_store: CountStore, size: int) -> None:
    ids = np.array([size - 1], np.uint32)
    count_store.add(RUN, 0, {"all": size}, {"all": (ids, np.array([4_000_000_000], np.uint32))})
    counts = count_store.read(RUN, "all", size)
    assert len(counts) == size
    assert counts[-1] == 4_000_000_000
