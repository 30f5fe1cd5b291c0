"""Leases over a real Redis: handed out, renewed, fenced, and what a Redis that was away does."""

import time

import pytest

from clipcurate.errors import LeaseLostError
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.ledger import Ledger
from services.counter.stages import StageKey
from services.counter.store import Store, run_prefix
from tests.ledger_steps import MATCH, RUN, balanced, claim, match_result, spec, states
from tests.waiting import wait_until


def test_every_task_is_handed_out_once(ledger: Ledger) -> None:
    ledger.create(RUN, spec(5), [balanced()])
    indexes = {claim(ledger).task.index for _ in range(5)}
    assert indexes == set(range(5))
    assert ledger.claim("a", MATCH) is None
    assert states(ledger) == ["LEASED"] * 5


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


def test_cancelling_takes_tasks_back_without_blame(ledger: Ledger) -> None:
    ledger.create(RUN, spec(1), [])
    for _ in range(5):
        claim(ledger)
        ledger.cancel(RUN)
        ledger.retry(RUN, accept_quarantine=False, include_quarantined=False)
    (record,) = next(ledger.tasks(RUN, StageKey(pb.STAGE_MATCH)))
    assert (record.state, record.failures) == (pb.TASK_STATE_READY, 0)


def test_a_cancelled_run_refuses_its_workers(ledger: Ledger) -> None:
    ledger.create(RUN, spec(2), [balanced()])
    lease = claim(ledger)
    ledger.cancel(RUN)
    assert ledger.run(RUN).state == pb.RUN_STATE_CANCELLED
    assert ledger.claim("b", MATCH) is None
    with pytest.raises(LeaseLostError):
        ledger.complete(lease, match_result())


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
