"""Tasks that fail, over a real Redis: back-off, blocking, quarantine, and what operators do."""

import pytest
import redis

from clipcurate.errors import InvalidInputError, StorageError
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.ledger import Ledger
from services.counter.run_reader import PROBLEMS_SHOWN
from services.counter.stages import StageKey
from services.counter.store import Store, translate
from tests.ledger_steps import MATCH, RUN, balanced, claim, dedup_spec, match_result, spec, states
from tests.waiting import wait_until

DEDUP_STAGES = [pb.STAGE_MATCH, pb.STAGE_DEDUP, pb.STAGE_KEYS]


def test_failures_back_off_and_then_block_the_run_visibly(ledger: Ledger) -> None:
    ledger.create(RUN, spec(1), [balanced()])
    for attempt in range(3):
        wait_until(lambda: ledger.run(RUN).stages[0].ready, 5, "the task is due again")
        state = ledger.fail(claim(ledger), pb.FAILURE_KIND_OTHER, f"no disk {attempt}")
    assert state == pb.TASK_STATE_BLOCKED
    run = ledger.run(RUN)
    assert run.state == pb.RUN_STATE_BLOCKED
    assert run.problems[0].error == "no disk 2"
    ledger.retry(RUN, accept_quarantine=False, include_quarantined=False)
    assert ledger.run(RUN).state == pb.RUN_STATE_ACTIVE
    claim(ledger)


def test_a_permanent_failure_blocks_at_once(ledger: Ledger) -> None:
    ledger.create(RUN, spec(1), [balanced()])
    state = ledger.fail(claim(ledger), pb.FAILURE_KIND_PERMANENT, "no such column")
    assert state == pb.TASK_STATE_BLOCKED


def test_unreadable_input_is_quarantined_when_a_second_worker_sees_it_too(ledger: Ledger) -> None:
    ledger.create(RUN, spec(1), [balanced()])
    state = ledger.fail(claim(ledger, "a"), pb.FAILURE_KIND_INPUT, "truncated")
    assert state == pb.TASK_STATE_READY
    assert ledger.claim("a", MATCH) is None, "another worker is to look at it first"
    state = ledger.fail(claim(ledger, "b"), pb.FAILURE_KIND_INPUT, "truncated")
    assert state == pb.TASK_STATE_QUARANTINED
    assert states(ledger, pb.STAGE_FREEZE) == ["READY"]


def test_only_match_tasks_are_quarantined(ledger: Ledger) -> None:
    ledger.create(RUN, spec(1), [])
    ledger.complete(claim(ledger), match_result())
    for attempt in range(3):
        lease = claim(ledger, f"worker {attempt}", [pb.STAGE_FREEZE])
        state = ledger.fail(lease, pb.FAILURE_KIND_INPUT, "an index is damaged")
    assert state == pb.TASK_STATE_BLOCKED


def test_a_lone_worker_looks_again_after_a_while(ledger: Ledger) -> None:
    ledger.create(RUN, spec(1), [balanced()])
    ledger.fail(claim(ledger), pb.FAILURE_KIND_INPUT, "truncated")
    found: list[pb.Lease | None] = []
    wait_until(
        lambda: found.append(ledger.claim("a", MATCH)) or found[-1], 5, "the task is due again"
    )
    assert ledger.fail(found[-1], pb.FAILURE_KIND_INPUT, "x") == pb.TASK_STATE_QUARANTINED  # type: ignore[arg-type]


def test_an_operator_can_accept_a_blocked_input_as_quarantined(ledger: Ledger) -> None:
    ledger.create(RUN, spec(1), [balanced()])
    ledger.fail(claim(ledger), pb.FAILURE_KIND_PERMANENT, "gone")
    ledger.retry(RUN, accept_quarantine=True, include_quarantined=False)
    assert states(ledger) == ["QUARANTINED"]
    assert ledger.run(RUN).stability == pb.STABILITY_COMPLETE


def test_what_keys_cannot_read_is_quarantined_for_matching_too(ledger: Ledger) -> None:
    ledger.create(RUN, dedup_spec(), [])
    assert ledger.claim("a", MATCH) is None
    bad = claim(ledger, "a", DEDUP_STAGES)
    assert bad.task.stage == pb.STAGE_KEYS
    ledger.fail(bad, pb.FAILURE_KIND_INPUT, "truncated")
    good = claim(ledger, "a", DEDUP_STAGES)
    bad = claim(ledger, "b", DEDUP_STAGES)
    assert ledger.fail(bad, pb.FAILURE_KIND_INPUT, "truncated") == pb.TASK_STATE_QUARANTINED
    ledger.complete(good, pb.TaskResult(keys=pb.KeysResult()))
    with pytest.raises(InvalidInputError, match="deduplication has begun"):
        ledger.retry(RUN, accept_quarantine=False, include_quarantined=True)
    ledger.complete(claim(ledger, "a", DEDUP_STAGES), pb.TaskResult(dedup=pb.DedupResult()))
    assert [stage.stage for stage in ledger.run(RUN).stages] == [8, 9, pb.STAGE_MATCH]
    assert states(ledger)[bad.task.index] == "QUARANTINED"
    assert ledger.task(RUN, StageKey(pb.STAGE_MATCH), bad.task.index).error == "truncated"
    assert ledger.task(RUN, StageKey(pb.STAGE_KEYS), bad.task.index).error == "truncated"
    match = claim(ledger, "a", DEDUP_STAGES)
    assert match.task.index == good.task.index
    ledger.complete(match, match_result())
    assert states(ledger, pb.STAGE_FREEZE) == ["READY"]
    assert ledger.run(RUN).stability == pb.STABILITY_COMPLETE


def test_once_duplicates_are_dropped_no_rows_can_be_given_up(ledger: Ledger) -> None:
    ledger.create(RUN, dedup_spec(), [])
    for stage in (pb.STAGE_KEYS, pb.STAGE_KEYS, pb.STAGE_DEDUP):
        ledger.complete(claim(ledger, stages=[stage]), pb.TaskResult())
    for worker in ("a", "b", "c"):
        lease = claim(ledger, worker)
        while lease.task.index:
            ledger.complete(lease, match_result())
            lease = claim(ledger, worker)
        state = ledger.fail(lease, pb.FAILURE_KIND_INPUT, "truncated")
    assert state == pb.TASK_STATE_BLOCKED
    with pytest.raises(InvalidInputError, match="1 blocked match tasks cannot be given up"):
        ledger.retry(RUN, accept_quarantine=True, include_quarantined=False)
    ledger.retry(RUN, accept_quarantine=False, include_quarantined=False)
    ledger.complete(claim(ledger), match_result())
    assert states(ledger) == ["DONE", "DONE"]


def test_a_blocked_keys_task_can_be_given_up(ledger: Ledger) -> None:
    ledger.create(RUN, dedup_spec(), [])
    lease = claim(ledger, stages=[pb.STAGE_KEYS])
    ledger.fail(lease, pb.FAILURE_KIND_PERMANENT, "gone")
    ledger.complete(claim(ledger, stages=[pb.STAGE_KEYS]), pb.TaskResult())
    ledger.retry(RUN, accept_quarantine=True, include_quarantined=False)
    ledger.complete(claim(ledger, stages=[pb.STAGE_DEDUP]), pb.TaskResult())
    assert states(ledger)[lease.task.index] == "QUARANTINED"


def test_problems_are_the_first_waiting_tasks_of_each_stage(ledger: Ledger) -> None:
    ledger.create(RUN, spec(PROBLEMS_SHOWN + 20), [balanced()])
    for number in range(PROBLEMS_SHOWN + 10):
        ledger.fail(claim(ledger), pb.FAILURE_KIND_PERMANENT, f"because {number}")
    blocked = [i for i, state in enumerate(states(ledger)) if state == "BLOCKED"]
    assert len(blocked) == PROBLEMS_SHOWN + 10
    problems = ledger.run(RUN).problems
    assert [task.task.index for task in problems] == blocked[:PROBLEMS_SHOWN]
    assert all(task.error.startswith("because") for task in problems)
    ledger.retry(RUN, accept_quarantine=True, include_quarantined=False)
    assert [task.state for task in ledger.run(RUN).problems] == [
        pb.TASK_STATE_QUARANTINED
    ] * PROBLEMS_SHOWN
    ledger.retry(RUN, accept_quarantine=False, include_quarantined=True)
    assert not ledger.run(RUN).problems
    assert set(states(ledger)) == {"READY"}


def test_quarantine_stays_once_freezing_has_begun(ledger: Ledger) -> None:
    ledger.create(RUN, spec(1), [])
    ledger.fail(claim(ledger, "a"), pb.FAILURE_KIND_INPUT, "truncated")
    ledger.fail(claim(ledger, "b"), pb.FAILURE_KIND_INPUT, "truncated")
    with pytest.raises(InvalidInputError, match="freezing has begun"):
        ledger.retry(RUN, accept_quarantine=False, include_quarantined=True)


def test_one_emission_blocked_and_another_under_way_is_no_blocked_run(
    ledger: Ledger, store: Store
) -> None:
    ledger.create(RUN, spec(1), [balanced(), balanced(seed=1)])
    ledger.complete(claim(ledger), match_result())
    ledger.complete(claim(ledger, stages=[pb.STAGE_FREEZE]), pb.TaskResult())
    ledger.fail(claim(ledger, stages=[pb.STAGE_SCORE]), pb.FAILURE_KIND_PERMANENT, "no")
    lease = claim(ledger, stages=[pb.STAGE_SCORE])
    task_id = f"{pb.STAGE_SCORE}:{lease.task.emission_key}:0"
    store.call("complete", RUN, task_id, lease.token, b"", "")  # its successor is not open yet
    assert ledger.run(RUN).state == pb.RUN_STATE_ACTIVE
    ledger.advance(RUN)
    assert ledger.run(RUN).state == pb.RUN_STATE_ACTIVE


def test_a_redis_without_memory_is_said(store: Store, ledger: Ledger) -> None:
    ledger.create(RUN, spec(1), [])
    for node in store.nodes():
        node.config_set("maxmemory", 1)
    try:
        with pytest.raises(redis.RedisError) as caught:
            ledger.claim("a", MATCH)
        with pytest.raises(redis.RedisError) as in_pipeline:
            ledger.create("other", spec(1), [])
    finally:
        for node in store.nodes():
            node.config_set("maxmemory", 0)
    for error in (caught.value, in_pipeline.value):
        assert isinstance(translate(error), StorageError)
