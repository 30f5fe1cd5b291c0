"""Counter processes over one Redis: several at once, and one that asks for durability."""

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from clipcurate.cli.local import serves
from clipcurate.cli.processes import Child, wait_for_file
from clipcurate.errors import LeaseLostError
from clipcurate.rpc.clients import CounterClient, LedgerClient
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.counts import RANGE, Sparse
from tests.integration.conftest import INSTALLED
from tests.redis_servers import Server, binary, server
from tests.waiting import wait_until

RUN = "run"
TASKS = 60
MATCHERS = 6
SIZE = 2 * RANGE + 100
START_SECONDS = 60


@contextmanager
def counter(folder: Path, name: str, redis: Server, **settings: str) -> Iterator[tuple[str, Child]]:
    """Start a counter process; yield its address, and the process."""
    ready = folder / f"{name}.address"
    values = {"REDIS_URL": redis.url, "READY_FILE": str(ready), "LOG_FORMAT": "text", **settings}
    environment = {f"CLIPCURATE_COUNTER_{key}": value for key, value in values.items()}
    command = [sys.executable, "-m", "services.counter"]
    child = Child(name, command, environment, folder / f"{name}.log")
    child.start()
    try:
        yield wait_for_file(ready, child, START_SECONDS), child
    finally:
        child.stop(20)


def sparse(task: int) -> Sparse:
    ids = np.arange(task % 7, SIZE, 7, np.uint32)
    return ids, np.full(len(ids), task + 1, np.uint32)


def work_off(name: str, addresses: list[str]) -> int:
    """Claim tasks until there are none; deliver each through every counter; return how many."""
    done = 0
    with ExitStack() as stack:
        ledger = stack.enter_context(LedgerClient("ipv4:" + ",".join(addresses)))
        counters = [stack.enter_context(CounterClient(address)) for address in addresses]
        while (claimed := ledger.claim(name, [pb.STAGE_MATCH])) is not None:
            ids, counts = sparse(claimed.lease.task.index)
            result = pb.MatchResult(pairs=1, matched=1, hits={"all": int(counts.sum())})
            deliver_through_all(counters, claimed.lease, result, (ids, counts))
            done += 1
    return done


def deliver_through_all(
    counters: list[CounterClient], lease: pb.Lease, result: pb.MatchResult, counts: Sparse
) -> None:
    """Deliver through all at once: one of them completes the task, which ends the lease."""

    def deliver(client: CounterClient) -> bool:
        try:
            client.count_task(lease, result, {"all": counts})
        except LeaseLostError:
            return False
        return True

    with ThreadPoolExecutor(len(counters)) as pool:
        assert any(pool.map(deliver, counters))


def test_matchers_that_use_two_counters_at_once_count_each_task_once(tmp_path: Path) -> None:
    metadata = [pb.MetadataRef(language="all", fingerprint="f", num_entries=SIZE)]
    spec = pb.RunSpec(output_url="/o", num_tasks=TASKS, metadata=metadata, rule="metaclip1")
    with ExitStack() as stack:
        redis = stack.enter_context(server(binary(INSTALLED[0])))
        started = [stack.enter_context(counter(tmp_path, name, redis)) for name in ("one", "two")]
        addresses = [address for address, _ in started]
        assert all(serves(address, START_SECONDS) for address in addresses)
        with LedgerClient(addresses[0]) as ledger:
            ledger.create_run(RUN, spec, [])
        with ThreadPoolExecutor(MATCHERS) as pool:
            done = list(pool.map(lambda n: work_off(f"matcher:{n}", addresses), range(MATCHERS)))
        with CounterClient(addresses[1]) as client:
            live = client.get_counts(RUN)
    expected = np.zeros(SIZE, np.int64)
    for task in range(TASKS):
        expected[sparse(task)[0]] += task + 1
    assert sum(done) == TASKS
    assert live.consistent, live.checks
    assert np.array_equal(live.counts["all"], expected)


@pytest.mark.parametrize("required", [True, False])
def test_a_redis_that_may_lose_writes_is_refused_where_durability_is_required(
    tmp_path: Path, required: bool
) -> None:
    with server(binary(INSTALLED[0]), "--appendfsync", "everysec") as redis:
        wanted = {"REQUIRE_DURABLE": str(required)}
        with counter(tmp_path, "counter", redis, **wanted) as (address, child):
            wait_until(
                lambda: "set appendfsync always" in child.tail(), START_SECONDS, "it says so"
            )
            assert serves(address, 1 if required else START_SECONDS) is not required
            with redis.client() as operator:
                operator.config_set("appendfsync", "always")
            assert serves(address, START_SECONDS), child.tail()
