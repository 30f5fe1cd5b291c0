"""Freezing while matching goes on, as the ledger has it: what opens when, whatever happens."""

from collections.abc import Callable

import pytest

from clipcurate.errors import ConflictError, InvalidInputError
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.ledger import Ledger
from services.counter.run_metrics import RunCollector
from services.counter.run_reader import RunReader
from services.counter.stages import FREEZE, MATCH, SEAL, StageKey
from services.counter.store import Store, run_prefix
from services.counter.windows import WindowState, WindowStore

RUN = "run-1"
TASKS = 4
WINDOWS = 2
FROZEN = pb.TaskResult(freeze=pb.FreezeResult(snapshot_id="s"))


def spec(**more: object) -> pb.RunSpec:
    metadata = [pb.MetadataRef(language="all", fingerprint="f", num_entries=10)]
    rule = pb.StabilitySpec(windows=WINDOWS)
    wanted = pb.RunSpec(
        output_url="/nowhere", num_tasks=TASKS, metadata=metadata, stability=rule, planned_rows=40
    )
    wanted.freeze = pb.STABILITY_CONVERGED
    for name, value in more.items():
        setattr(wanted, name, value)
    return wanted


BALANCED = pb.EmissionSpec(kind=pb.EMISSION_KIND_BALANCED, t=5.0)
MATCHED = pb.EmissionSpec(kind=pb.EMISSION_KIND_MATCHED)


def claim(ledger: Ledger, *stages: int, worker: str = "a") -> pb.Lease:
    lease = ledger.claim(worker, stages)
    assert lease is not None
    return lease


def count(ledger: Ledger, tasks: int = 1) -> list[int]:
    """Count some match tasks; return which."""
    leases = [claim(ledger, pb.STAGE_MATCH) for _ in range(tasks)]
    for lease in leases:
        result = pb.MatchResult(pairs=10, planned_rows=10, hits={"all": 2})
        ledger.complete(lease, pb.TaskResult(match=result))
    return [lease.task.index for lease in leases]


def below(store: Store, windows: int) -> None:
    """Leave as the end of the last window that so many were below epsilon."""
    fields = {"base": "b", "tasks": 1, "seen": 10, "announced": 40, "drifts": "[0.1]"}
    store.redis.hset(run_prefix(RUN) + "window", mapping=fields | {"below": windows})


def converge(ledger: Ledger, store: Store) -> None:
    below(store, WINDOWS)
    ledger.advance(RUN)


def freeze(ledger: Ledger) -> None:
    ledger.complete(claim(ledger, pb.STAGE_FREEZE), FROZEN)


def quarantine(ledger: Ledger) -> int:
    """Have two workers find a match task unreadable; return which."""
    first = claim(ledger, pb.STAGE_MATCH)
    ledger.fail(first, pb.FAILURE_KIND_INPUT, "truncated")
    others = [claim(ledger, pb.STAGE_MATCH, worker="b")]
    while others[-1].task.index != first.task.index:
        others.append(claim(ledger, pb.STAGE_MATCH, worker="b"))
    again = others.pop()
    for other in others:
        ledger.release(other)
    assert ledger.fail(again, pb.FAILURE_KIND_INPUT, "truncated") == pb.TASK_STATE_QUARANTINED
    return first.task.index


def scores(ledger: Ledger) -> set[int]:
    """Do all SCORE tasks that are handed out; return which."""
    done = set()
    while lease := ledger.claim("a", [pb.STAGE_SCORE]):
        ledger.complete(lease, pb.TaskResult(score=pb.ScoreResult()))
        done.add(lease.task.index)
    return done


def opened(ledger: RunReader) -> set[int]:
    return {key.stage for key in ledger.tallies(RUN)}


def test_freezing_begins_with_convergence_and_scoring_follows_matching(
    ledger: Ledger, store: Store
) -> None:
    ledger.create(RUN, spec(), [BALANCED])
    counted = count(ledger, 2)
    assert ledger.claim("a", [pb.STAGE_FREEZE]) is None
    converge(ledger, store)
    assert ledger.claim("a", [pb.STAGE_SCORE]) is None
    freeze(ledger)
    assert ledger.frozen_early(RUN)
    (score,) = [s for s in ledger.run(RUN).stages if s.stage == pb.STAGE_SCORE]
    assert (score.total, score.ready, score.waiting) == (TASKS, 2, 2)
    assert scores(ledger) == set(counted)
    more = count(ledger)
    assert scores(ledger) == set(more)
    assert opened(ledger) == {pb.STAGE_MATCH, pb.STAGE_FREEZE, pb.STAGE_SCORE}
    count(ledger)
    assert len(scores(ledger)) == 1
    assert ledger.claim("a", [pb.STAGE_PLAN]) is None, "it is not final yet what was read"
    ledger.complete(claim(ledger, pb.STAGE_SEAL), pb.TaskResult(seal=pb.SealResult()))
    claim(ledger, pb.STAGE_PLAN)
    assert ledger.run(RUN).frozen == FROZEN.freeze


def test_without_the_option_converged_counts_wait_for_matching(
    ledger: Ledger, store: Store
) -> None:
    ledger.create(RUN, spec(freeze=pb.STABILITY_UNSPECIFIED), [BALANCED])
    count(ledger, 2)
    converge(ledger, store)
    assert opened(ledger) == {pb.STAGE_MATCH}


def test_counts_that_are_converged_no_more_are_not_frozen(ledger: Ledger, store: Store) -> None:
    """Redis went back, or a window had more drift, after someone saw that they were."""
    ledger.create(RUN, spec(), [BALANCED])
    count(ledger, 2)
    below(store, WINDOWS - 1)
    ledger.advance(RUN)
    late = [RUN, str(FREEZE), 1, 0, "", str(MATCH), WINDOWS, "", str(SEAL), 0.5]
    assert store.call("open_stage", *late) == -1
    assert opened(ledger) == {pb.STAGE_MATCH}
    below(store, WINDOWS)
    assert store.call("open_stage", *late) == 1


def test_windows_stay_as_they_were_when_freezing_began(ledger: Ledger, store: Store) -> None:
    ledger.create(RUN, spec(), [BALANCED])
    count(ledger, 2)
    converge(ledger, store)
    windows = WindowStore(store)
    state = windows.state(RUN)
    assert not windows.close(RUN, state, WindowState("", 3, 30, 40), {})
    assert windows.state(RUN) == state


def test_what_is_matched_before_it_converges_is_frozen_complete(
    ledger: Ledger, store: Store
) -> None:
    ledger.create(RUN, spec(), [BALANCED])
    count(ledger, TASKS)
    converge(ledger, store)
    freeze(ledger)
    assert not ledger.frozen_early(RUN)
    assert scores(ledger) == set(range(TASKS))
    claim(ledger, pb.STAGE_PLAN)
    assert pb.STAGE_SEAL not in opened(ledger)


def test_what_is_quarantined_after_freezing_is_scored_when_that_is_final(
    ledger: Ledger, store: Store
) -> None:
    ledger.create(RUN, spec(), [BALANCED])
    count(ledger, 2)
    converge(ledger, store)
    lost = quarantine(ledger)
    freeze(ledger)
    count(ledger)
    assert scores(ledger) == set(range(TASKS)) - {lost}
    lease = claim(ledger, pb.STAGE_SEAL)
    with pytest.raises(InvalidInputError, match="sealing has begun"):
        ledger.retry(RUN, accept_quarantine=False, include_quarantined=True)
    late = (RUN, MATCH.task_id(lost), "quarantined", "ready", str(SEAL))
    assert store.call("resolve", *late) == 0, "also where it begins in that moment"
    ledger.complete(lease, pb.TaskResult(seal=pb.SealResult()))
    assert scores(ledger) == {lost}
    claim(ledger, pb.STAGE_PLAN)


def test_what_is_quarantined_may_be_tried_again_after_freezing(
    ledger: Ledger, store: Store
) -> None:
    ledger.create(RUN, spec(), [BALANCED])
    count(ledger, 2)
    lost = quarantine(ledger)
    converge(ledger, store)
    freeze(ledger)
    scores(ledger)
    ledger.retry(RUN, accept_quarantine=False, include_quarantined=True)
    assert lost in count(ledger, 2)
    assert lost in scores(ledger)
    assert not ledger.run(RUN).problems


def test_tasks_that_wait_do_not_hide_that_a_run_is_blocked(ledger: Ledger, store: Store) -> None:
    ledger.create(RUN, spec(), [BALANCED])
    count(ledger, 3)
    converge(ledger, store)
    freeze(ledger)
    scores(ledger)
    ledger.fail(claim(ledger, pb.STAGE_MATCH), pb.FAILURE_KIND_PERMANENT, "changed")
    assert ledger.run(RUN).state == pb.RUN_STATE_BLOCKED
    ledger.retry(RUN, accept_quarantine=True, include_quarantined=False)
    ledger.complete(claim(ledger, pb.STAGE_SEAL), pb.TaskResult(seal=pb.SealResult()))
    assert len(scores(ledger)) == 1


@pytest.mark.parametrize("sealed", [False, True])
def test_an_emission_that_is_asked_for_later(ledger: Ledger, store: Store, sealed: bool) -> None:
    ledger.create(RUN, spec(), [])
    count(ledger, 2)
    converge(ledger, store)
    freeze(ledger)
    lost = quarantine(ledger)
    if sealed:
        count(ledger)
        ledger.complete(claim(ledger, pb.STAGE_SEAL), pb.TaskResult(seal=pb.SealResult()))
        assert ledger.run(RUN).state == pb.RUN_STATE_DONE
    ledger.create(RUN, spec(), [MATCHED])
    found = scores(ledger)
    assert (lost in found, len(found)) == ((True, TASKS) if sealed else (False, 2))


def test_a_run_that_only_counts_goes_on_to_the_last_task(ledger: Ledger, store: Store) -> None:
    ledger.create(RUN, spec(), [])
    count(ledger, 2)
    converge(ledger, store)
    freeze(ledger)
    assert ledger.run(RUN).state == pb.RUN_STATE_ACTIVE
    count(ledger, 2)
    ledger.complete(claim(ledger, pb.STAGE_SEAL), pb.TaskResult(seal=pb.SealResult()))
    assert ledger.run(RUN).state == pb.RUN_STATE_DONE


def test_what_keys_quarantined_waits_for_the_seal_too(ledger: Ledger, store: Store) -> None:
    ledger.create(RUN, spec(dedup_partitions=1), [BALANCED])
    for _ in range(TASKS - 1):
        ledger.complete(claim(ledger, pb.STAGE_KEYS), pb.TaskResult(keys=pb.KeysResult()))
    ledger.fail(claim(ledger, pb.STAGE_KEYS), pb.FAILURE_KIND_PERMANENT, "gone")
    ledger.retry(RUN, accept_quarantine=True, include_quarantined=False)
    ledger.complete(claim(ledger, pb.STAGE_DEDUP), pb.TaskResult(dedup=pb.DedupResult()))
    count(ledger, 1)
    converge(ledger, store)
    freeze(ledger)
    count(ledger, TASKS - 2)
    assert len(scores(ledger)) == TASKS - 1
    ledger.complete(claim(ledger, pb.STAGE_SEAL), pb.TaskResult(seal=pb.SealResult()))
    assert len(scores(ledger)) == 1
    assert StageKey(pb.STAGE_DEDUP) in ledger.tallies(RUN)


@pytest.mark.parametrize("lose", ["count", "seal"])
def test_a_task_is_woken_once(ledger: Ledger, store: Store, lose: str) -> None:
    """Whoever completes a task may repeat it, not having heard that it is done."""
    ledger.create(RUN, spec(), [BALANCED])
    count(ledger, 2)
    converge(ledger, store)
    freeze(ledger)
    calls: list[Callable[[], None]] = []
    if lose == "count":
        lease = claim(ledger, pb.STAGE_MATCH)
        result = pb.TaskResult(match=pb.MatchResult(pairs=10, planned_rows=10))
    else:
        quarantine(ledger)
        count(ledger)
        lease, result = claim(ledger, pb.STAGE_SEAL), pb.TaskResult(seal=pb.SealResult())
    calls += [lambda: ledger.complete(lease, result)] * 2
    scores(ledger)
    for call in calls:
        call()
    assert len(scores(ledger)) == 1
    tally = ledger.tallies(RUN)[next(k for k in ledger.tallies(RUN) if k.stage == pb.STAGE_SCORE)]
    assert (tally.ready, tally.leased) == (0, 0)
    assert tally.done + tally.waiting == TASKS


def test_a_run_is_frozen_at_one_moment(ledger: Ledger) -> None:
    ledger.create(RUN, spec(), [])
    with pytest.raises(ConflictError, match="freezes converged counts, not complete"):
        ledger.create(RUN, spec(freeze=pb.STABILITY_COMPLETE), [])
    with pytest.raises(InvalidInputError, match="complete or converged"):
        ledger.create("run-2", spec(freeze=pb.STABILITY_COUNTING), [])


def test_metrics_show_of_how_much_the_counts_are(ledger: Ledger, store: Store) -> None:
    ledger.create(RUN, spec(), [BALANCED])
    count(ledger, 2)
    converge(ledger, store)
    name, result = "clipcurate_run_frozen_ratio", pb.TaskResult()
    samples = [s for metric in RunCollector(ledger, store).collect() for s in metric.samples]
    assert name not in {s.name for s in samples}
    found = pb.Convergence(tasks=2, pairs_seen=20, pairs_announced=50)
    result.freeze.convergence.CopyFrom(found)
    ledger.complete(claim(ledger, pb.STAGE_FREEZE), result)
    samples = [s for metric in RunCollector(ledger, store).collect() for s in metric.samples]
    assert [s.value for s in samples if s.name == name] == [0.4]
    states = {s.labels["state"]: s.value for s in samples if s.labels.get("stage") == "score"}
    assert (states["ready"], states["waiting"]) == (2, 2)
