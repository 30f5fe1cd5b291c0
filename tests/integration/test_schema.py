"""Layout versions over every kind of Redis: which runs a counter works on, and which it refuses."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import pytest
from redis.crc import key_slot

from clipcurate.cli.local import serves
from clipcurate.errors import UnavailableError
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.counts import CountStore
from services.counter.ledger import Ledger
from services.counter.run_metrics import RunCollector
from services.counter.schema import MARK, VERSION
from services.counter.service import LedgerService
from services.counter.settings import CounterSettings
from services.counter.store import FAILURES, Store, run_prefix, translate
from tests.conftest import CommandLine
from tests.integration.conftest import INSTALLED
from tests.integration.test_counters import counter
from tests.redis_servers import binary, server
from tests.waiting import wait_until

OLD, NEW = VERSION, VERSION + 1
SIZES = {"all": 9000}
ADDS = {"all": (np.arange(9000, dtype=np.uint32), np.ones(9000, np.uint32))}
SPEC = pb.RunSpec(
    output_url="/o", num_tasks=2, metadata=[pb.MetadataRef(language="all", num_entries=9000)]
)
RESULT = pb.TaskResult(match=pb.MatchResult(pairs=1, hits=SIZES))


@pytest.fixture
def newer(redis_url: str, store: Store) -> Iterator[Ledger]:
    """A ledger of the next release over the same Redis, which is empty."""
    found = Store(redis_url, schema=NEW)
    yield Ledger(found, CounterSettings(lease_seconds=60))
    found.close()


def claimed(ledger: Ledger) -> pb.Lease:
    lease = ledger.claim("worker", [pb.STAGE_MATCH])
    assert lease is not None
    return lease


def contents(store: Store) -> dict[bytes, Any]:
    """Everything that Redis holds, as it would be copied elsewhere."""
    return {key: store.redis.dump(key) for key in store.redis.scan_iter("clipcurate:*")}


def mark(store: Store) -> int:
    return int(store.redis.get(MARK) or 0)


def version_of(store: Store, run_id: str) -> bytes | None:
    found: bytes | None = store.redis.hget(run_prefix(run_id) + "run", "schema")
    return found


def test_an_empty_redis_gets_the_version_with_its_first_run(store: Store, ledger: Ledger) -> None:
    assert mark(store) == 0
    ledger.create("run", SPEC, [])
    assert (mark(store), version_of(store, "run")) == (OLD, b"1")


def test_a_run_without_a_version_is_of_the_first(
    store: Store, ledger: Ledger, newer: Ledger
) -> None:
    """As those of earlier releases are; who adds to it does not change what it is."""
    ledger.create("run", SPEC, [])
    store.redis.hdel(run_prefix("run") + "run", "schema")
    store.redis.delete(MARK)
    ledger.create("run", SPEC, [pb.EmissionSpec(kind=pb.EMISSION_KIND_MATCHED)])
    newer.create("run", SPEC, [pb.EmissionSpec(kind=pb.EMISSION_KIND_RAW)])
    assert version_of(store, "run") is None
    newer.complete(claimed(newer), RESULT)
    ledger.complete(claimed(ledger), RESULT)
    assert len(ledger.run("run").emissions) == 2
    assert ledger.run("run").hits == 2 * 9000


def test_a_run_of_a_newer_version_is_refused_and_nothing_is_written(
    store: Store, ledger: Ledger, newer: Ledger
) -> None:
    newer.create("run", SPEC, [])
    lease = claimed(newer)
    CountStore(newer._store).add("run", SIZES, {0: ADDS})
    before = contents(store)
    matched = pb.EmissionSpec(kind=pb.EMISSION_KIND_MATCHED)
    refused: list[Callable[[], object]] = [
        lambda: ledger.create("run", SPEC, [matched]),
        lambda: ledger.create("run", SPEC, [], anew=True),
        lambda: ledger.create("another run", SPEC, []),
        lambda: ledger.run("run"),
        lambda: ledger.look("run"),
        lambda: ledger.renew(lease),
        lambda: ledger.complete(lease, RESULT),
        lambda: ledger.fail(lease, pb.FAILURE_KIND_OTHER, "reason"),
        lambda: ledger.release(lease),
        lambda: ledger.cancel("run"),
        lambda: ledger.retry("run", accept_quarantine=False, include_quarantined=False),
        lambda: CountStore(store).add("run", SIZES, {1: ADDS}),
    ]
    for call in refused:
        with pytest.raises(FAILURES) as failure:
            call()
        told = translate(failure.value)
        assert isinstance(told, UnavailableError)
        assert "of layout version 2" in str(told)
        assert "up to 1: upgrade the counter" in str(told)
    assert contents(store) == before


def test_counters_of_neighbouring_versions_share_the_runs_that_both_know(
    store: Store, ledger: Ledger, newer: Ledger
) -> None:
    ledger.create("run", SPEC, [])
    first = claimed(ledger)
    newer.create("newer", SPEC, [])
    newer.complete(first, RESULT)
    ledger.complete(claimed(ledger), RESULT)
    assert newer.run("run").stages[0].done == 2
    assert claimed(newer).task.run_id == "newer"


def figures(collector: RunCollector) -> dict[tuple[str, str], float]:
    """Figures without further labels, by name and run."""
    samples = [sample for family in collector.collect() for sample in family.samples]
    return {(s.name, s.labels.get("run", "")): s.value for s in samples if len(s.labels) < 2}


def test_a_newer_run_stops_none_of_the_others(store: Store, ledger: Ledger, newer: Ledger) -> None:
    """The one that was cancelled and retried is behind it, the other before it."""
    ledger.create("again", SPEC, [])
    ledger.create("run", SPEC, [])
    ledger.cancel("again")
    assert claimed(ledger).task.run_id == "run", "so `again` is no more among the active runs"
    newer.create("newer", SPEC, [])
    ledger.retry("again", accept_quarantine=False, include_quarantined=False)
    assert ledger.active_run_ids() == ["run", "newer", "again"]

    assert [claimed(ledger).task.run_id for _ in range(3)] == ["run", "again", "again"]
    assert ledger.claim("worker", [pb.STAGE_MATCH]) is None
    found = figures(RunCollector(ledger, store))
    assert found["clipcurate_redis_up", ""] == 1
    assert found["clipcurate_runs_active", ""] == 2
    assert {run for name, run in found if name == "clipcurate_pairs"} == {"run", "again"}
    service = LedgerService(ledger, threading.Event(), 4)
    listed = service.ListRuns(pb.ListRunsRequest(), cast("grpc.ServicerContext", None))
    assert [run.run_id for run in listed.runs] == ["run", "again"]
    assert listed.newer_run_ids == ["newer"]


def test_an_archived_run_keeps_its_version(store: Store, ledger: Ledger, newer: Ledger) -> None:
    newer.create("run", SPEC, [])
    newer.cancel("run")
    archive = pb.ObjectRef(url="/o/archive", hash="h")
    newer.archive("run", newer.run("run").revision, archive)
    assert newer.run("run").state == pb.RUN_STATE_ARCHIVED
    with pytest.raises(FAILURES, match="NEWERSCHEMA 2 1"):
        ledger.run("run")


def test_a_lost_mark_neither_stops_a_run_nor_lets_a_newer_one_through(
    store: Store, ledger: Ledger, newer: Ledger
) -> None:
    ledger.create("run", SPEC, [])
    newer.create("newer", SPEC, [])
    assert key_slot(MARK.encode()) != key_slot(run_prefix("run").encode())
    store.redis.delete(MARK)
    assert mark(store) == 0
    ledger.complete(claimed(ledger), RESULT)
    with pytest.raises(FAILURES, match="NEWERSCHEMA 2 1"):
        ledger.run("newer")


def test_a_counter_is_not_ready_over_a_newer_redis_and_says_what_to_do(
    tmp_path: Path, command_line: CommandLine
) -> None:
    with server(binary(INSTALLED[0])) as redis, counter(tmp_path, "old", redis) as (address, child):
        assert serves(address, 60)
        upgraded = Store(redis.url, schema=NEW)
        Ledger(upgraded, CounterSettings()).create("newer", SPEC, [])
        wait_until(lambda: not serves(address, 0.1), 20, "the old counter is not ready")
        wait_until(lambda: "not ready until it can" in child.tail(), 20, "it says so")
        assert "of layout version 2" in child.tail()
        with LedgerClient(address) as client:
            with pytest.raises(UnavailableError, match="upgrade the counter"):
                client.create_run("run", SPEC, [])
        listed = command_line("runs", "--server", address)
        assert (listed.returncode, "upgrade the counter to see: newer" in listed.stderr) == (
            0,
            True,
        )
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(20)  # it answers all the same
        upgraded.redis.flushall()
        assert serves(address, 60)
        upgraded.close()
