"""Runs over a real Redis: made, refused, through all stages, lost and found."""

import pytest

from clipcurate.errors import ConflictError, InvalidInputError, NotFoundError
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.ledger import Ledger
from services.counter.registering import emission_key
from services.counter.store import ACTIVE_RUNS, RUNS, Store, run_prefix
from tests.ledger_steps import MATCH, RUN, balanced, claim, dedup_spec, match_result, spec, states


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
