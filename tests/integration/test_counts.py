"""Counts in a real Redis: exactly once, and noticed where they are not."""

import threading
from concurrent.futures import ThreadPoolExecutor

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


def add(counts: CountStore, task: int, part: Sparse) -> int:
    return counts.add(RUN, SIZES, {task: {"all": part}})[task]


def tasks(*numbers: int) -> npt.NDArray[np.int64]:
    return np.array(numbers, np.int64)


def test_counts_add_up_over_tasks(count_store: CountStore) -> None:
    parts = [sparse(seed) for seed in range(4)]
    for task, part in enumerate(parts):
        assert add(count_store, task, part) == 0
    assert np.array_equal(count_store.read(RUN, "all", SIZE), dense(*parts))
    assert count_store.wrong_marks(RUN, "all", SIZE, tasks(0, 1, 2, 3)) == (0, 0)


def test_a_repeated_delivery_changes_nothing(count_store: CountStore) -> None:
    part = sparse(1)
    add(count_store, 7, part)
    assert add(count_store, 7, part) == 3, "all three ranges were there"
    assert np.array_equal(count_store.read(RUN, "all", SIZE), dense(part))


def test_a_delivery_that_broke_off_is_completed_by_its_repetition(
    count_store: CountStore, store: Store
) -> None:
    part = sparse(2)
    add(count_store, 0, part)
    prefix = run_prefix(RUN)
    store.redis.delete(f"{prefix}counts:all:1", f"{prefix}marks:all:1")
    assert count_store.wrong_marks(RUN, "all", SIZE, tasks(0)) == (1, 0)
    assert add(count_store, 0, part) == 2
    assert np.array_equal(count_store.read(RUN, "all", SIZE), dense(part))


def test_a_task_without_hits_leaves_its_mark(count_store: CountStore) -> None:
    count_store.add(RUN, SIZES, {0: {}})
    assert count_store.wrong_marks(RUN, "all", SIZE, tasks(0)) == (0, 0)
    assert not count_store.read(RUN, "all", SIZE).any()


def test_a_range_that_came_back_older_is_noticed(count_store: CountStore, store: Store) -> None:
    add(count_store, 0, sparse(1))
    prefix = run_prefix(RUN)
    keys = [f"{prefix}counts:all:0", f"{prefix}marks:all:0"]
    older = [store.redis.get(key) for key in keys]
    add(count_store, 1, sparse(2))
    for key, value in zip(keys, older, strict=True):
        store.redis.set(key, value)
    assert count_store.wrong_marks(RUN, "all", SIZE, tasks(0, 1)) == (1, 0)


def test_replacing_puts_exact_counts_and_marks(count_store: CountStore) -> None:
    add(count_store, 3, sparse(1))
    counts = dense(sparse(5), sparse(6))
    assert count_store.replace(RUN, {"all": counts}, tasks(0, 2), settled=True) == 0
    assert np.array_equal(count_store.read(RUN, "all", SIZE), counts)
    assert count_store.wrong_marks(RUN, "all", SIZE, tasks(0, 2)) == (0, 0)
    assert count_store.wrong_marks(RUN, "all", SIZE, tasks(0, 3)) == (6, 3)


def test_a_range_that_an_open_task_has_added_to_is_left(
    count_store: CountStore, store: Store
) -> None:
    part, early = sparse(1), sparse(2)
    add(count_store, 0, part)
    add(count_store, 1, early)  # half counted: in the last range only
    prefix = run_prefix(RUN)
    for number in (0, 1):
        store.redis.delete(f"{prefix}counts:all:{number}", f"{prefix}marks:all:{number}")
    assert count_store.replace(RUN, {"all": dense(part)}, tasks(0), settled=False) == 1
    add(count_store, 1, early)
    assert np.array_equal(count_store.read(RUN, "all", SIZE), dense(part, early))
    assert count_store.wrong_marks(RUN, "all", SIZE, tasks(0, 1)) == (0, 0)


def test_replacing_beside_counting_loses_and_repeats_nothing(count_store: CountStore) -> None:
    parts, done = [sparse(seed, 500) for seed in range(60)], list[int]()

    def count_all() -> None:
        for task, part in enumerate(parts):
            add(count_store, task, part)
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
    adds = {"all": (ids, np.array([4_000_000_000], np.uint32))}
    count_store.add(RUN, {"all": size}, {0: adds})
    counts = count_store.read(RUN, "all", size)
    assert len(counts) == size
    assert counts[-1] == 4_000_000_000


def test_several_tasks_at_once_are_added_where_they_are_not_yet(
    count_store: CountStore, store: Store
) -> None:
    parts = [sparse(seed) for seed in range(3)]
    add(count_store, 0, parts[0])
    prefix = run_prefix(RUN)
    store.redis.delete(f"{prefix}counts:all:1", f"{prefix}marks:all:1")
    group = {task: {"all": part} for task, part in enumerate(parts)}
    assert count_store.add(RUN, SIZES, group) == {0: 2, 1: 0, 2: 0}
    assert np.array_equal(count_store.read(RUN, "all", SIZE), dense(*parts))
    assert count_store.wrong_marks(RUN, "all", SIZE, tasks(0, 1, 2)) == (0, 0)


def test_counters_add_to_the_same_ranges_at_the_same_time(store: Store, redis_url: str) -> None:
    parts = [sparse(seed) for seed in range(60)]
    stores = [Store(redis_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: add(CountStore(stores[n % 4]), n, parts[n]), range(60)))
    assert np.array_equal(CountStore(store).read(RUN, "all", SIZE), dense(*parts))
    assert CountStore(store).wrong_marks(RUN, "all", SIZE, tasks(*range(60))) == (0, 0)
    for other in stores:
        other.close()


def test_what_was_made_from_counts_that_were_replaced_meanwhile_is_made_again(
    count_store: CountStore, store: Store
) -> None:
    part, other = sparse(1), sparse(2)
    add(count_store, 0, part)
    keys = [f"{run_prefix(RUN)}{kind}:all:0" for kind in ("counts", "marks")]
    before = store.redis.get(keys[1])
    right = dense(other)
    assert count_store.replace(RUN, {"all": right}, tasks(0), settled=True) == 0
    assert store.redis.get(keys[1]) != before
    assert add(count_store, 1, part) == 0
    assert np.array_equal(count_store.read(RUN, "all", SIZE), dense(other, part))


def test_scripts_survive_a_flush(count_store: CountStore, store: Store) -> None:
    add(count_store, 0, sparse(1))
    store.redis.script_flush()
    add(count_store, 1, sparse(2))
    assert np.array_equal(count_store.read(RUN, "all", SIZE), dense(sparse(1), sparse(2)))
