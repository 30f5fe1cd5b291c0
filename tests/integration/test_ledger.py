"""The ledger over a real Redis: leases, fences, failures, stages."""

import time

import pytest
import redis

from clipcurate.errors import (
    ConflictError,
    InvalidInputError,
    LeaseLostError,
    NotFoundError,
    StorageError,
)
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.ledger import Ledger
from services.counter.registering import emission_key
from services.counter.run_reader import PROBLEMS_SHOWN
from services.counter.stages import StageKey
from services.counter.store import ACTIVE_RUNS, RUNS, Store, run_prefix, translate
from tests.waiting import wait_until

RUN = "run-1"
MATCH = [pb.STAGE_MATCH]


def spec(tasks: int = 3) -> pb.RunSpec:
    metadata = [pb.MetadataRef(language="all", fingerprint="f", num_entries=10)]
    return pb.RunSpec(output_url="/nowhere", num_tasks=tasks, metadata=metadata, rule="metaclip1")


def balanced(**more: object) -> pb.EmissionSpec:
    return pb.EmissionSpec(kind=pb.EMISSION_KIND_BALANCED, t=5.0, **more)


def match_result(hits: int = 2) -> pb.TaskResult:
    return pb.TaskResult(match=pb.MatchResult(pairs=10, matched=2, hits={"all": hits}))


def claim(ledger: Ledger, worker: str = "a", stages: list[int] | None = None) -> pb.Lease:
    lease = ledger.claim(worker, stages or MATCH)
    assert lease is not None
    return lease


def states(ledger: Ledger, stage: int = pb.STAGE_MATCH, key: str = "") -> list[str]:
    return [
        pb.TaskState.Name(record.state).removeprefix("TASK_STATE_")
        for records in ledger.tasks(RUN, StageKey(stage, key))
        for record in records
    ]


def test_every_task_is_handed_out_once(ledger: Ledger) -> None:
    ledger.create(RUN, spec(5), [balanced()])
    indexes = {claim(ledger).task.index for _ in range(5)}
    assert indexes == set(range(5))
    assert ledger.claim("a", MATCH) is None
    assert states(ledger) == ["LEASED"] * 5


def test_creating_a_run_twice_changes_nothing(ledger: Ledger) -> None:
    ledger.create(RUN, spec(), [balanced()])
    claim(ledger)
    ledger.create(RUN, spec(), [balanced()])
    assert sorted(states(ledger)) == ["LEASED", "READY", "READY"]
    assert len(ledger.emissions(RUN)) == 1


def test_incomplete_runs_are_refused(ledger: Ledger) -> None:
    with pytest.raises(InvalidInputError, match="needs an id"):
        ledger.create("", spec(), [balanced()])
    with pytest.raises(NotFoundError, match="unknown"):
        ledger.run("nothing")


def test_an_expired_lease_goes_to_another_and_the_first_holder_is_refused(ledger: Ledger) -> None:
    ledger.create(RUN, spec(1), [balanced()])
    old = claim(ledger, "sleeper")
    wait_until(lambda: ledger.claim("other", MATCH), 5, "the lease is over")
    for call in (
        lambda: ledger.renew(old),
        lambda: ledger.complete(old, match_result()),
        lambda: ledger.fail(old, pb.FAILURE_KIND_OTHER, "late"),
        lambda: ledger.release(old),
    ):
        with pytest.raises(LeaseLostError, match="void"):
            call()
    (record,) = next(ledger.tasks(RUN, StageKey(pb.STAGE_MATCH)))
    assert record.worker == "other"
    assert "sleeper" in record.error


def test_a_renewed_lease_does_not_expire(ledger: Ledger) -> None:
    ledger.create(RUN, spec(1), [balanced()])
    lease = claim(ledger)
    end = time.monotonic() + 0.9  # three lease times
    while time.monotonic() < end:
        ledger.renew(lease, done=7)
        assert ledger.claim("other", MATCH) is None
        time.sleep(0.05)
    assert ledger.run(RUN).stages[0].units_done == 7


def test_tokens_are_never_issued_twice(ledger: Ledger) -> None:
    ledger.create(RUN, spec(1), [balanced()])
    tokens = set()
    for _ in range(20):
        lease = claim(ledger)
        tokens.add(lease.token)
        ledger.release(lease)
    assert len(tokens) == 20


def test_completing_twice_is_harmless_and_counts_once(ledger: Ledger) -> None:
    ledger.create(RUN, spec(1), [balanced()])
    lease = claim(ledger)
    ledger.complete(lease, match_result())
    ledger.complete(lease, match_result())
    run = ledger.run(RUN)
    assert (run.pairs, run.hits) == (10, 2)
    assert run.stability == pb.STABILITY_COMPLETE


def test_unmatched_pairs_add_up_per_language(ledger: Ledger) -> None:
    ledger.create(RUN, spec(3), [])
    for unmatched in ({"fr": 2, "other": 1}, {"fr": 3}, {}):
        result = pb.MatchResult(pairs=10, unmatched_by_language=unmatched)
        lease = claim(ledger)
        for _ in range(2):
            ledger.complete(lease, pb.TaskResult(match=result))
    run = ledger.run(RUN)
    assert dict(run.unmatched_by_language) == {"fr": 5, "other": 1}
    assert (run.pairs, run.hits) == (30, 0)


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


DEDUP_STAGES = [pb.STAGE_MATCH, pb.STAGE_DEDUP, pb.STAGE_KEYS]


def dedup_spec() -> pb.RunSpec:
    with_dedup = spec(2)
    with_dedup.dedup_partitions = 1
    return with_dedup


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


def test_leases_name_the_opening_of_their_stage(ledger: Ledger, store: Store) -> None:
    ledger.create(RUN, spec(3), [balanced()])
    first, second = claim(ledger), claim(ledger)
    assert first.opening == second.opening != ""
    for lease in (first, second, claim(ledger)):
        ledger.complete(lease, match_result())
    assert claim(ledger, stages=[pb.STAGE_FREEZE]).opening not in ("", first.opening)
    store.redis.flushdb()  # Redis came back older: the stage is opened again
    ledger.create(RUN, spec(3), [balanced()])
    assert claim(ledger).opening not in ("", first.opening)


def test_quarantine_stays_once_freezing_has_begun(ledger: Ledger) -> None:
    ledger.create(RUN, spec(1), [])
    ledger.fail(claim(ledger, "a"), pb.FAILURE_KIND_INPUT, "truncated")
    ledger.fail(claim(ledger, "b"), pb.FAILURE_KIND_INPUT, "truncated")
    with pytest.raises(InvalidInputError, match="freezing has begun"):
        ledger.retry(RUN, accept_quarantine=False, include_quarantined=True)


def test_the_same_run_cannot_write_to_two_folders(ledger: Ledger) -> None:
    ledger.create(RUN, spec(1), [])
    other = spec(1)
    other.output_url = "/elsewhere"
    with pytest.raises(ConflictError, match="writes to /nowhere, not to /elsewhere"):
        ledger.create(RUN, other, [])


def test_requests_that_cannot_be_meant_are_refused(ledger: Ledger) -> None:
    for emission, message in (
        (pb.EmissionSpec(), "kind is 0, which this service does not know"),
        (pb.EmissionSpec(kind=pb.EMISSION_KIND_BALANCED), "exactly one of t, size"),
        (balanced(part_bytes=2**63), "part_bytes"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            ledger.create(RUN, spec(1), [balanced(), emission])
    with pytest.raises(NotFoundError):
        ledger.spec(RUN)
    with pytest.raises(InvalidInputError, match="more than"):
        ledger.create(RUN, spec(4_000_000_000), [])


def test_cancelling_takes_tasks_back_without_blame(ledger: Ledger) -> None:
    ledger.create(RUN, spec(1), [])
    for _ in range(5):
        claim(ledger)
        ledger.cancel(RUN)
        ledger.retry(RUN, accept_quarantine=False, include_quarantined=False)
    (record,) = next(ledger.tasks(RUN, StageKey(pb.STAGE_MATCH)))
    assert (record.state, record.failures) == (pb.TASK_STATE_READY, 0)


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


def test_a_cancelled_run_refuses_its_workers(ledger: Ledger) -> None:
    ledger.create(RUN, spec(2), [balanced()])
    lease = claim(ledger)
    ledger.cancel(RUN)
    assert ledger.run(RUN).state == pb.RUN_STATE_CANCELLED
    assert ledger.claim("b", MATCH) is None
    with pytest.raises(LeaseLostError):
        ledger.complete(lease, match_result())


def test_a_run_goes_through_all_stages(ledger: Ledger) -> None:
    emission = balanced(train=pb.TrainSpec(preset="tiny"))
    ledger.create(RUN, spec(2), [emission])
    key = emission_key(emission)
    results = {
        pb.STAGE_MATCH: match_result(),
        pb.STAGE_FREEZE: pb.TaskResult(freeze=pb.FreezeResult(snapshot_id="s")),
        pb.STAGE_SCORE: pb.TaskResult(score=pb.ScoreResult()),
        pb.STAGE_PLAN: pb.TaskResult(plan=pb.PlanResult(num_parts=3)),
        pb.STAGE_WRITE: pb.TaskResult(write=pb.WriteResult()),
        pb.STAGE_PUBLISH: pb.TaskResult(publish=pb.PublishResult()),
        pb.STAGE_TRAIN: pb.TaskResult(train=pb.TrainResult()),
    }
    done: list[int] = []
    while (lease := ledger.claim("a", list(results))) is not None:
        done.append(lease.task.stage)
        ledger.complete(lease, results[lease.task.stage])
    assert done == [1, 1, 2, 3, 3, 4, 5, 5, 5, 6, 7]
    run = ledger.run(RUN)
    assert run.state == pb.RUN_STATE_DONE
    assert run.emissions[0].key == key
    assert run.emissions[0].HasField("trained")


def test_an_emission_without_parts_is_published_all_the_same(ledger: Ledger) -> None:
    ledger.create(RUN, spec(1), [balanced()])
    results = [match_result(), *[pb.TaskResult()] * 2, pb.TaskResult(plan=pb.PlanResult())]
    for result in [*results, pb.TaskResult(publish=pb.PublishResult())]:
        ledger.complete(claim(ledger, stages=list(range(1, 8))), result)
    assert ledger.run(RUN).state == pb.RUN_STATE_DONE


def test_a_stage_that_a_crash_left_closed_opens_at_the_next_claim(
    ledger: Ledger, store: Store
) -> None:
    ledger.create(RUN, spec(1), [])
    lease = claim(ledger)
    result = match_result().SerializeToString()
    store.call("complete", RUN, "1::0", lease.token, result, "")  # and the counter dies here
    assert ledger.claim("a", [pb.STAGE_FREEZE]) is None
    claim(ledger, stages=[pb.STAGE_FREEZE])


def test_a_run_that_is_done_is_not_looked_at_again(ledger: Ledger) -> None:
    ledger.create(RUN, spec(1), [])
    ledger.complete(claim(ledger), match_result())
    ledger.complete(claim(ledger, stages=[pb.STAGE_FREEZE]), pb.TaskResult())
    assert ledger.claim("a", MATCH) is None
    assert (ledger.active_run_ids(), ledger.run_ids()) == ([], [RUN])
    ledger.create(RUN, spec(1), [balanced()])
    claim(ledger, stages=[pb.STAGE_SCORE])


def test_an_emission_added_later_uses_the_same_counts(ledger: Ledger) -> None:
    ledger.create(RUN, spec(1), [])
    ledger.complete(claim(ledger), match_result())
    ledger.complete(claim(ledger, stages=[pb.STAGE_FREEZE]), pb.TaskResult())
    assert ledger.run(RUN).state == pb.RUN_STATE_DONE
    ledger.create(RUN, spec(1), [balanced()])
    assert ledger.run(RUN).state == pb.RUN_STATE_ACTIVE
    assert ledger.claim("a", MATCH) is None
    claim(ledger, stages=[pb.STAGE_SCORE])


def test_after_redis_was_away_leases_get_one_grace_period(ledger: Ledger, store: Store) -> None:
    ledger.create(RUN, spec(1), [balanced()])
    lease = claim(ledger)
    store.redis.hset(run_prefix(RUN) + "run", "seen", 0)  # as after a long silence
    leases = run_prefix(RUN) + "leases"
    wait_until(
        lambda: store.redis.zscore(leases, "1::0") < time.time() * 1000, 5, "the lease is over"
    )
    assert ledger.claim("other", MATCH) is None, "the lease is over, but its holder gets a chance"
    ledger.renew(lease)
    ledger.complete(lease, match_result())


def test_scripts_survive_script_flush(ledger: Ledger, store: Store) -> None:
    ledger.create(RUN, spec(2), [balanced()])
    claim(ledger)
    store.redis.script_flush()
    claim(ledger)


def test_the_hand_out_order_is_keyed(ledger: Ledger) -> None:
    first, second = spec(50), spec(50)
    first.order_seed, second.order_seed = 1, 2
    ledger.create("one", first, [])
    ones = [claim(ledger).task.index for _ in range(50)]
    ledger.cancel("one")
    ledger.create("two", second, [])
    twos = [claim(ledger).task.index for _ in range(50)]
    assert sorted(ones) == sorted(twos) == list(range(50))
    assert len({tuple(ones), tuple(twos), tuple(range(50))}) == 3


def test_a_run_that_redis_has_lost_does_not_hold_up_the_others(
    ledger: Ledger, store: Store
) -> None:
    ledger.create("lost", spec(1), [])
    ledger.create(RUN, spec(1), [])
    store.redis.delete(*store.redis.scan_iter(run_prefix("lost") + "*"))
    assert claim(ledger).task.run_id == RUN
    assert ledger.run_ids() == [RUN]
    assert ledger.active_run_ids() == [RUN]


def test_a_run_that_the_lists_have_lost_is_put_back_by_whoever_looks(
    ledger: Ledger, store: Store
) -> None:
    ledger.create(RUN, spec(1), [])
    store.redis.delete(RUNS, ACTIVE_RUNS)
    assert ledger.claim("a", MATCH) is None
    ledger.look(RUN)
    assert ledger.run_ids() == [RUN]
    assert claim(ledger).task.run_id == RUN


def test_a_clock_that_goes_back_holds_nothing_up(ledger: Ledger, store: Store) -> None:
    ledger.create(RUN, spec(3), [])
    ledger.fail(claim(ledger, "lone"), pb.FAILURE_KIND_INPUT, "bad bytes")
    held, hung = claim(ledger, "lone"), claim(ledger, "hung")
    hour, prefix = 3_600_000, run_prefix(RUN)
    for name in (f"queue:{pb.STAGE_MATCH}", "leases"):
        for task_id, _ in store.redis.zrange(prefix + name, 0, -1, withscores=True):
            store.redis.zincrby(prefix + name, hour, task_id)
    failed = next(n for n in range(3) if n not in {held.task.index, hung.task.index})
    store.redis.hincrby(f"{prefix}task:{pb.STAGE_MATCH}::{failed}", "avoid_until", hour)
    store.redis.hset(prefix + "run", "grace", int(time.time() * 1000) + hour)
    assert claim(ledger, "lone").task.index == failed, "neither its pause nor its opinion lasts"
    ledger.complete(held, match_result())
    wait_until(lambda: ledger.claim("other", MATCH) is not None, 5, "the task is handed out")


def test_a_stage_that_is_due_no_more_is_not_opened(ledger: Ledger, store: Store) -> None:
    ledger.create(RUN, spec(1), [])
    late = [RUN, "2:", 1, 0, "", "1:", "", "", "10:", 0.5]
    assert store.call("open_stage", *late) == -1, "a task is open again: Redis came back older"
    store.redis.delete(*store.redis.scan_iter(run_prefix(RUN) + "*"))
    first = [RUN, "1:", 1, 0, "", "", "", "", "10:", 0.5]
    assert store.call("open_stage", *first) == -1, "Redis has lost the run"
    assert not list(store.redis.scan_iter(run_prefix(RUN) + "*"))
    ledger.create(RUN, spec(1), [])
    ledger.complete(claim(ledger), match_result())
    claim(ledger, stages=[pb.STAGE_FREEZE])


def test_a_part_of_a_larger_pool_is_announced_once_and_has_no_exact_sizes(ledger: Ledger) -> None:
    part = spec(1)
    part.stability.announced_pairs = 500
    sized = pb.EmissionSpec(kind=pb.EMISSION_KIND_BALANCED, size=5)
    with pytest.raises(InvalidInputError, match="an exact size needs the whole pool"):
        ledger.create(RUN, part, [sized])
    ledger.create(RUN, part, [balanced()])
    with pytest.raises(ConflictError, match="has 500 announced pairs, not none"):
        ledger.create(RUN, spec(1), [])
    ledger.create(RUN, part, [balanced(seed=1)])
    ledger.complete(claim(ledger), match_result())
    assert ledger.run(RUN).stability_progress.pairs_announced == 500
    duplicates = dedup_spec()
    duplicates.stability.announced_pairs = 500
    with pytest.raises(InvalidInputError, match="removing duplicates needs the whole pool"):
        ledger.create("other", duplicates, [])
