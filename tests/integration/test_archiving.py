"""Runs that leave Redis: what stays, what is refused, and a deletion that dies half-way."""

import numpy as np
import pytest
import redis
from redis.crc import key_slot

from clipcurate.errors import (
    ConflictError,
    InvalidInputError,
    LeaseLostError,
    NotFoundError,
    UnavailableError,
)
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.archiving import clear
from services.counter.counts import CountStore
from services.counter.ledger import Ledger
from services.counter.run_metrics import RunCollector
from services.counter.settings import CounterSettings
from services.counter.stages import StageKey
from services.counter.store import ACTIVE_RUNS, FAILURES, RUNS, Store, run_prefix, translate
from tests.integration.conftest import INSTALLED
from tests.redis_servers import SLOTS, binary, cluster
from tests.waiting import wait_until

RUN = next(f"run-{n}" for n in range(99) if key_slot(run_prefix(f"run-{n}").encode()) < SLOTS // 3)
"""In a slot of a cluster's first server."""
TASKS = 3
SIZES = {"all": 20_000}
RECOVER_SECONDS = 20
MATCHED = pb.EmissionSpec(kind=pb.EMISSION_KIND_MATCHED)
RAW = pb.EmissionSpec(kind=pb.EMISSION_KIND_RAW)
ARCHIVE = pb.ObjectRef(url="/nowhere/runs/archive.jsonl.gz", size=7, hash="a" * 32)
MANIFEST = pb.ObjectRef(url="/nowhere/manifest.json", hash="b" * 32)
RESULTS = {
    pb.STAGE_MATCH: pb.TaskResult(match=pb.MatchResult(pairs=10, hits=SIZES)),
    pb.STAGE_FREEZE: pb.TaskResult(freeze=pb.FreezeResult(snapshot_id="s")),
    pb.STAGE_SCORE: pb.TaskResult(score=pb.ScoreResult()),
    pb.STAGE_PLAN: pb.TaskResult(plan=pb.PlanResult(num_parts=2)),
    pb.STAGE_WRITE: pb.TaskResult(write=pb.WriteResult()),
    pb.STAGE_PUBLISH: pb.TaskResult(publish=pb.PublishResult(manifest=MANIFEST)),
}


def spec() -> pb.RunSpec:
    metadata = [pb.MetadataRef(language=name, num_entries=size) for name, size in SIZES.items()]
    return pb.RunSpec(output_url="/nowhere", num_tasks=TASKS, metadata=metadata)


def keys_of(store: Store, run_id: str) -> list[bytes]:
    """Return the run's keys, sorted; found without a pattern."""
    prefix = run_prefix(run_id).encode()
    with store.node(run_id) as node:
        return sorted(key for key in node.scan_iter() if key.startswith(prefix))


def work(ledger: Ledger, counts: CountStore, run_id: str = RUN) -> None:
    """Do all tasks that are handed out: every task counts 1 for each entry."""
    every = {
        name: (np.arange(n, dtype=np.uint32), np.ones(n, np.uint32)) for name, n in SIZES.items()
    }
    while lease := ledger.claim("worker", list(RESULTS)):
        assert lease.task.run_id == run_id
        if lease.task.stage == pb.STAGE_MATCH:
            counts.add(run_id, SIZES, {lease.task.index: every})
        ledger.complete(lease, RESULTS[lease.task.stage])


def finish(ledger: Ledger, counts: CountStore, run_id: str = RUN) -> pb.Run:
    ledger.create(run_id, spec(), [MATCHED])
    work(ledger, counts, run_id)
    run = ledger.run(run_id)
    assert run.state == pb.RUN_STATE_DONE
    return run


def mark(store: Store, run: pb.Run) -> None:
    """Make a run archived; here the counter dies, before it deletes anything."""
    marker = pb.Run(run_id=run.run_id, state=pb.RUN_STATE_ARCHIVED, archive=ARCHIVE)
    assert store.call("archive", run.run_id, run.revision, marker.SerializeToString())


def test_of_an_archived_run_only_a_marker_is_left(
    ledger: Ledger, count_store: CountStore, store: Store
) -> None:
    done = finish(ledger, count_store)
    assert len(keys_of(store, RUN)) > 20
    ledger.archive(RUN, done.revision, ARCHIVE)
    assert keys_of(store, RUN) == [f"{run_prefix(RUN)}run".encode()]
    run = ledger.look(RUN)
    assert (run.state, run.archive) == (pb.RUN_STATE_ARCHIVED, ARCHIVE)
    assert (run.pairs, run.hits) == (10 * TASKS, 20_000 * TASKS)
    assert (run.stages[0].done, run.stages[0].total) == (TASKS, TASKS)
    assert [emission.published.manifest for emission in run.emissions] == [MANIFEST]
    assert run.created_at == done.created_at
    assert ledger.claim("worker", list(RESULTS)) is None
    assert (ledger.run_ids(), ledger.active_run_ids()) == ([RUN], [])
    figures = [s for metric in RunCollector(ledger, store).collect() for s in metric.samples]
    found = {sample.name: sample.value for sample in figures}
    assert found == {"clipcurate_redis_up": 1, "clipcurate_runs_active": 0}


def test_archiving_leaves_other_runs_alone_whatever_their_names(
    ledger: Ledger, count_store: CountStore, store: Store
) -> None:
    odd, other = "run-*[1-2]?\\", "run-x2yz"
    for run_id in (other, odd):
        finish(ledger, count_store, run_id)
    before = keys_of(store, other)
    ledger.archive(odd, ledger.run(odd).revision, ARCHIVE)
    assert len(keys_of(store, odd)) == 1
    assert keys_of(store, other) == before
    assert ledger.run(other).state == pb.RUN_STATE_DONE


def test_an_archived_run_refuses_whoever_would_change_it(
    ledger: Ledger, count_store: CountStore, store: Store
) -> None:
    ledger.create(RUN, spec(), [])
    lease = ledger.claim("slow", [pb.STAGE_MATCH])
    assert lease is not None
    ledger.cancel(RUN)
    ledger.archive(RUN, ledger.run(RUN).revision, ARCHIVE)
    for call in (
        lambda: ledger.cancel(RUN),
        lambda: ledger.retry(RUN, accept_quarantine=False, include_quarantined=False),
        lambda: ledger.create(RUN, spec(), [RAW]),
        lambda: ledger.spec(RUN),
    ):
        with pytest.raises(ConflictError, match=r"is archived in /nowhere/runs/archive.*--anew"):
            call()
    for late in (ledger.renew, ledger.release, lambda held: ledger.complete(held, pb.TaskResult())):
        with pytest.raises(LeaseLostError):
            late(lease)
    match = str(StageKey(pb.STAGE_MATCH))
    assert store.call("open_stage", RUN, match, 1, 0, "", "", "", "", "", 0.5) == -1
    assert not store.call("resolve", RUN, "1::0", "leased", "ready", "")
    assert not store.call("close_window", RUN, "", "", "base", "late")
    assert len(keys_of(store, RUN)) == 1


def test_only_a_run_that_has_ended_and_is_still_the_same_is_archived(
    ledger: Ledger, count_store: CountStore, store: Store
) -> None:
    ledger.create(RUN, spec(), [MATCHED])
    before = keys_of(store, RUN)
    with pytest.raises(ConflictError, match="is active: archive it when it is done"):
        ledger.archive(RUN, ledger.run(RUN).revision, ARCHIVE)
    assert keys_of(store, RUN) == before
    done = finish(ledger, count_store)
    with pytest.raises(InvalidInputError, match="its url and its hash"):
        ledger.archive(RUN, done.revision, pb.ObjectRef())
    ledger.create(RUN, spec(), [RAW])
    work(ledger, count_store)
    before = keys_of(store, RUN)
    with pytest.raises(ConflictError, match="has changed since its archive was made"):
        ledger.archive(RUN, done.revision, ARCHIVE)
    assert keys_of(store, RUN) == before
    with pytest.raises(NotFoundError, match="unknown"):
        ledger.archive("other", "", ARCHIVE)


def test_a_run_that_was_cancelled_again_is_another_one(ledger: Ledger) -> None:
    ledger.create(RUN, spec(), [])
    ledger.cancel(RUN)
    first = ledger.run(RUN)
    ledger.retry(RUN, accept_quarantine=False, include_quarantined=False)
    ledger.cancel(RUN)
    with pytest.raises(ConflictError, match="has changed"):
        ledger.archive(RUN, first.revision, ARCHIVE)


SHARES = [0.0, 0.3, 0.7, 1.0]


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("backwards", [False, True])
def test_a_deletion_that_dies_half_way_leaves_a_run_that_is_archived(
    ledger: Ledger, count_store: CountStore, store: Store, share: float, backwards: bool
) -> None:
    mark(store, finish(ledger, count_store))
    marker = f"{run_prefix(RUN)}run".encode()
    keys = sorted((key for key in keys_of(store, RUN) if key != marker), reverse=backwards)
    assert store.call("clear", RUN, *keys[: round(share * len(keys))])
    store.redis.delete(RUNS, ACTIVE_RUNS)
    assert ledger.look(RUN).state == pb.RUN_STATE_ARCHIVED
    assert ledger.claim("worker", list(RESULTS)) is None
    with pytest.raises(ConflictError, match="is archived"):
        ledger.create(RUN, spec(), [MATCHED])
    ledger.archive(RUN, "", ARCHIVE)
    assert keys_of(store, RUN) == [marker]


@pytest.mark.parametrize("share", SHARES)
def test_a_run_starts_anew_from_nothing_whatever_a_deletion_has_left(
    ledger: Ledger, count_store: CountStore, store: Store, share: float
) -> None:
    mark(store, finish(ledger, count_store))
    keys = [key for key in keys_of(store, RUN) if not key.endswith(b":run")]
    assert store.call("clear", RUN, *keys[: round(share * len(keys))])
    for _ in range(2):  # the second call repeats a first whose reply was lost
        ledger.create(RUN, spec(), [RAW], anew=True)
    run = ledger.run(RUN)
    assert (run.state, run.pairs, run.stages[0].ready) == (pb.RUN_STATE_ACTIVE, 0, TASKS)
    assert [emission.spec for emission in run.emissions] == [RAW]
    assert count_store.read(RUN, "all", SIZES["all"]).tolist() == [0] * SIZES["all"]
    work(ledger, count_store)
    assert ledger.run(RUN).state == pb.RUN_STATE_DONE
    assert count_store.read(RUN, "all", SIZES["all"]).tolist() == [TASKS] * SIZES["all"]
    counted, _ = ledger.counted_tasks(RUN)
    assert count_store.wrong_marks(RUN, "all", SIZES["all"], counted) == (0, 0)


def test_who_deletes_late_spares_the_run_that_started_anew(
    ledger: Ledger, count_store: CountStore, store: Store
) -> None:
    ledger.archive(RUN, finish(ledger, count_store).revision, ARCHIVE)
    ledger.create(RUN, spec(), [RAW], anew=True)
    before = keys_of(store, RUN)
    assert not store.call("clear", RUN, *before)
    clear(store, RUN)
    assert keys_of(store, RUN) == before


def test_anew_means_nothing_to_a_run_that_is_not_archived(
    ledger: Ledger, count_store: CountStore
) -> None:
    finish(ledger, count_store)
    ledger.create(RUN, spec(), [MATCHED], anew=True)
    assert ledger.run(RUN).state == pb.RUN_STATE_DONE


@pytest.mark.parametrize("name", sorted({INSTALLED[0], INSTALLED[-1]}))
def test_a_slot_on_its_way_is_not_taken_for_an_empty_one(name: str) -> None:
    with cluster(binary(name)) as found:
        store = Store(found.url)
        mark(store, finish(Ledger(store, CounterSettings()), CountStore(store)))
        slot = key_slot(run_prefix(RUN).encode())
        keys = found.ask(0, "CLUSTER GETKEYSINSLOT", slot, 1000)
        old, new = found.ask(0, "CLUSTER MYID"), found.ask(1, "CLUSTER MYID")
        found.ask(1, "CLUSTER SETSLOT", slot, "IMPORTING", old)
        found.ask(0, "CLUSTER SETSLOT", slot, "MIGRATING", new)
        port = found.servers[1].options["port"]
        found.ask(0, "MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *keys)
        with pytest.raises(redis.RedisError) as caught:
            clear(store, RUN)
        assert isinstance(translate(caught.value), UnavailableError)
        for number in (1, 0):
            found.ask(number, "CLUSTER SETSLOT", slot, "NODE", new)
        wait_until(lambda: cleared(store), RECOVER_SECONDS, "the slot has arrived")
        assert found.ask(1, "CLUSTER COUNTKEYSINSLOT", slot) == 1
        store.close()


def cleared(store: Store) -> bool:
    try:
        clear(store, RUN)
    except FAILURES as error:
        assert isinstance(translate(error), UnavailableError), error
        return False
    return True
