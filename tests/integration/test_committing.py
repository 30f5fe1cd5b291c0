"""Group commit over a real Redis: who waits together is counted together, once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import redis

from services.counter.committing import GroupCommit
from services.counter.counts import RANGE, CountStore, Sparse
from services.counter.store import Store

SIZES = {"all": RANGE + 10}
RUNS = ("run-1", "run-2")


def sparse(task: int) -> Sparse:
    ids = np.arange(task % 7, SIZES["all"], 7, np.uint32)
    return ids, np.full(len(ids), task + 1, np.uint32)


def test_deliveries_from_many_threads_are_counted_once(count_store: CountStore) -> None:
    commits = GroupCommit(count_store)
    deliveries = [(run, task) for task in range(20) for run in RUNS] * 2

    def deliver(delivery: tuple[str, int]) -> int:
        run, task = delivery
        return commits.add(run, SIZES, task, {"all": sparse(task)})

    with ThreadPoolExecutor(16) as pool:
        repeated = list(pool.map(deliver, deliveries))
    assert sorted(repeated) == [0] * 40 + [2] * 40, "each once, and once too often in both ranges"
    expected = np.zeros(SIZES["all"], np.int64)
    for task in range(20):
        expected[sparse(task)[0]] += task + 1
    for run in RUNS:
        assert np.array_equal(count_store.read(run, "all", SIZES["all"]), expected)
        assert count_store.wrong_marks(run, "all", SIZES["all"], np.arange(20)) == (0, 0)


def test_where_redis_is_away_everyone_hears_of_it() -> None:
    away = Store("redis://127.0.0.1:1")
    commits = GroupCommit(CountStore(away))
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(commits.add, "run", SIZES, n, {}) for n in range(4)]
    for delivery in waiting:
        with pytest.raises(redis.ConnectionError):
            delivery.result()
    away.close()
