"""What counters show of runs, and of leases that run out, over real servers."""

import logging

import pytest
from prometheus_client import REGISTRY

from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter import run_metrics
from services.counter.ledger import Ledger
from services.counter.run_metrics import RunCollector
from services.counter.settings import CounterSettings
from services.counter.store import Store, run_prefix
from tests.waiting import wait_until

RUN = "0" * 32
MATCH = [pb.STAGE_MATCH]
LONG_AGO = 1000.0
PAUSE_MS = 2000
"""Less than the seconds after which a client gives a connection up."""


def spec(tasks: int = 2) -> pb.RunSpec:
    metadata = [pb.MetadataRef(language="all", fingerprint="f", num_entries=10)]
    return pb.RunSpec(output_url="/nowhere", num_tasks=tasks, metadata=metadata, planned_rows=20)


def result() -> pb.TaskResult:
    match = pb.MatchResult(
        pairs=12,
        matched=5,
        unmatched=3,
        duplicate=2,
        planned_rows=10,
        hits={"all": 7},
        rejected={"no_text": 1, "truncated": 1},
        unmatched_by_language={"all": 2, "xx": 1},
    )
    return pb.TaskResult(match=match)


@pytest.fixture
def ledger(store: Store) -> Ledger:
    return Ledger(store, CounterSettings(lease_seconds=30, backoff_seconds=0))


def shown(collector: RunCollector) -> dict[tuple[str, ...], float]:
    """Return the figures by name and by what labels say beside the run."""
    found = {}
    for family in collector.collect():
        for sample in family.samples:
            labels = [value for name, value in sample.labels.items() if name != "run"]
            found[sample.name.removeprefix("clipcurate_"), *labels] = sample.value
    return found


def claim(ledger: Ledger) -> pb.Lease:
    lease = ledger.claim("worker", MATCH)
    assert lease is not None
    return lease


def stand_still(store: Store) -> None:
    """Have the run last moved long ago."""
    key = run_prefix(RUN) + "run"
    moved = int(store.redis.hget(key, "moved"))
    store.redis.hset(key, "moved", moved - int(LONG_AGO * 1000))


def lag(ledger: Ledger, store: Store) -> float:
    return shown(RunCollector(ledger, store))["run_lag_seconds",]


def test_a_run_that_does_not_get_on_lags(ledger: Ledger, store: Store) -> None:
    ledger.create(RUN, spec(), [])
    assert lag(ledger, store) < LONG_AGO
    stand_still(store)
    assert LONG_AGO <= lag(ledger, store) < 2 * LONG_AGO
    lease = claim(ledger)
    ledger.renew(lease, 0, 10)
    ledger.renew(lease)
    assert lag(ledger, store) >= LONG_AGO, "claims and renewals alone get nothing on"


def test_units_completed_tasks_and_operators_get_a_run_on(ledger: Ledger, store: Store) -> None:
    ledger.create(RUN, spec(), [])
    lease = claim(ledger)
    steps = (
        lambda: ledger.renew(lease, 7, 10),
        lambda: ledger.complete(lease, result()),
        lambda: ledger.retry(RUN, accept_quarantine=False, include_quarantined=False),
        lambda: ledger.create(RUN, spec(), []),
    )
    for step in steps:
        stand_still(store)
        assert lag(ledger, store) >= LONG_AGO
        step()
        assert lag(ledger, store) < LONG_AGO


def test_a_run_with_nothing_open_does_not_lag(ledger: Ledger, store: Store) -> None:
    ledger.create(RUN, spec(1), [])
    ledger.fail(claim(ledger), pb.FAILURE_KIND_PERMANENT, "a column is missing")
    stand_still(store)
    assert lag(ledger, store) == 0


def test_outcomes_add_up_to_the_pairs_read(ledger: Ledger, store: Store) -> None:
    ledger.create(RUN, spec(), [])
    before = shown(RunCollector(ledger, store))
    assert (before["pairs",], before["run_pairs_planned",]) == (0, 20)
    ledger.complete(claim(ledger), result())
    found = shown(RunCollector(ledger, store))
    outcomes = {key[1]: value for key, value in found.items() if key[0] == "run_pairs_outcome"}
    assert outcomes == {"rejected": 2, "duplicate": 2, "unmatched": 3, "matched": 5}
    assert sum(outcomes.values()) == found["pairs",] == 12
    assert found["run_rejected_pairs", "no_text"] == found["run_rejected_pairs", "truncated"] == 1
    assert found["run_pairs_planned",] == 24, "rows of the plan hold 12 pairs per 10"


def test_leases_that_run_out_are_counted_and_logged(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(store, CounterSettings(lease_seconds=0.1, backoff_seconds=0))
    name, labels = "clipcurate_counter_leases_expired_total", {"stage": "match"}
    before = REGISTRY.get_sample_value(name, labels) or 0
    ledger.create(RUN, spec(1), [])
    claim(ledger)
    with caplog.at_level(logging.WARNING, "services.counter.metrics"):
        wait_until(lambda: ledger.claim("other", MATCH), 10, "the lease has run out")
    (said,) = caplog.records
    assert vars(said).items() >= {"run": RUN, "stage": "match", "task": 0}.items()
    assert vars(said)["worker"] == "worker"
    assert REGISTRY.get_sample_value(name, labels) == before + 1


class CountingLedger(Ledger):
    """Says how many runs were read."""

    read = 0

    def run(self, run_id: str) -> pb.Run:
        self.read += 1
        return super().run(run_id)


def test_runs_that_have_ended_are_not_read(store: Store) -> None:
    ledger = CountingLedger(store, CounterSettings())
    for number in range(20):
        ledger.create(f"ended-{number}", spec(), [])
        ledger.cancel(f"ended-{number}")
    assert ledger.claim("worker", MATCH) is None
    ledger.create(RUN, spec(), [])
    found = shown(RunCollector(ledger, store))
    assert ledger.read == found["runs_active",] == 1
    assert found["tasks", "match", "ready"] == 2


def test_of_many_runs_the_oldest_are_shown(
    store: Store, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_metrics, "SHOWN_RUNS", 3)
    for number in range(5):
        ledger.create(f"run-{number}", spec(), [])
    families = list(RunCollector(ledger, store).collect())
    runs = {s.labels["run"] for f in families for s in f.samples if "run" in s.labels}
    assert runs == {"run-0", "run-1", "run-2"}
    (active,) = [f for f in families if f.name == "clipcurate_runs_active"]
    assert active.samples[0].value == 5


def test_a_redis_that_hangs_does_not_hold_a_scrape(
    store: Store, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.create(RUN, spec(), [])
    collector = RunCollector(ledger, store)
    assert shown(collector)["redis_up",] == 1
    monkeypatch.setattr(run_metrics, "SCRAPE_SECONDS", 0.1)
    for node in store.nodes():
        node.execute_command("CLIENT", "PAUSE", PAUSE_MS, "ALL")
    assert shown(collector) == {("redis_up",): 0}, "it did not wait for the end of the pause"
    monkeypatch.setattr(run_metrics, "SCRAPE_SECONDS", 60)
    found = shown(collector)
    assert (found["redis_up",], found["tasks", "match", "ready"]) == (1, 2)
