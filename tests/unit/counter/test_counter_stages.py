import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.stages import (
    FREEZE,
    MATCH,
    SEAL,
    StageKey,
    StageTally,
    due_stages,
    hand_out_scores,
    last_stage,
    parse_task_id,
    reading_stages,
    run_state,
    stability,
    stages_before,
)

RUN = pb.RunSpec(num_tasks=3)
DEDUP_RUN = pb.RunSpec(num_tasks=3, dedup_partitions=2)
PLAIN = pb.EmissionSpec(kind=pb.EMISSION_KIND_MATCHED)
TRAINED = pb.EmissionSpec(train=pb.TrainSpec(preset="tiny"))
DONE = {"done": 3, "total": 3}
STAGES = st.sampled_from([value for value in pb.Stage.values() if value])


@given(STAGES, st.text("0123456789abcdef:", max_size=8), st.integers(0, 10**9))
def test_task_ids_round_trip(stage: pb.Stage.ValueType, emission: str, index: int) -> None:
    key = StageKey(stage, emission)
    assert StageKey.parse(str(key)) == key
    assert parse_task_id(key.task_id(index)) == (key, index)


@given(
    st.lists(st.tuples(STAGES, st.sampled_from(["", "a", "b"]), st.integers(0, 99)), unique=True)
)
def test_task_ids_are_distinct(tasks: list[tuple[pb.Stage.ValueType, str, int]]) -> None:
    assert len({StageKey(stage, key).task_id(i) for stage, key, i in tasks}) == len(tasks)


def walk(
    emissions: dict[str, pb.EmissionSpec], parts: dict[str, int], run: pb.RunSpec = RUN
) -> list[list[str]]:
    """Finish whatever is due until nothing is; return each wave's new stages."""
    tallies: dict[StageKey, StageTally] = {}
    waves = []
    while True:
        planned = {key: parts[key] for key in parts if StageKey(pb.STAGE_PLAN, key) in tallies}
        due = list(due_stages(run, emissions, tallies, planned))
        assert len(dict(due)) == len(due)
        assert {key: tally.total for key, tally in tallies.items()}.items() <= dict(due).items()
        new = [(key, total) for key, total in due if key not in tallies]
        state = run_state(False, emissions, tallies)
        assert state == (pb.RUN_STATE_ACTIVE if new else pb.RUN_STATE_DONE)
        if not new:
            return waves
        waves.append([f"{pb.Stage.Name(k.stage)[6:].lower()}{k.emission}:{n}" for k, n in new])
        tallies |= {key: StageTally(total, done=total) for key, total in new}


def test_a_whole_run_from_stage_to_stage() -> None:
    assert walk({"A": PLAIN, "B": TRAINED}, {"A": 2, "B": 5}) == [
        ["match:3"],
        ["freeze:1"],
        ["scoreA:3", "scoreB:3"],
        ["planA:1", "planB:1"],
        ["writeA:2", "writeB:5"],
        ["publishA:1", "publishB:1"],
        ["trainB:1"],
    ]


def test_a_run_that_only_counts() -> None:
    assert walk({}, {}) == [["match:3"], ["freeze:1"]]


def test_a_run_that_drops_duplicates() -> None:
    waves = walk({"A": PLAIN}, {"A": 2}, DEDUP_RUN)
    assert waves[:5] == [["keys:3"], ["dedup:2"], ["match:3"], ["freeze:1"], ["scoreA:3"]]
    keys = [StageKey(stage) for stage in (pb.STAGE_TRAIN, *pb.Stage.values()[1:])]
    names = [pb.Stage.Name(key.stage)[6:] for key in sorted(keys, key=lambda key: key.place)]
    assert names[:4] == ["KEYS", "DEDUP", "MATCH", "FREEZE"]


def test_an_emission_that_gathers_rows() -> None:
    grouped = pb.EmissionSpec(kind=pb.EMISSION_KIND_MATCHED, group=pb.GROUP_URL)
    waves = walk({"A": grouped, "B": PLAIN}, {"A": 2, "B": 1}, pb.RunSpec(num_tasks=7))
    assert waves[2:6] == [
        ["scoreA:7", "scoreB:7"],
        ["gatherA:7", "planB:1"],
        ["settleA:2", "writeB:1"],
        ["planA:1", "publishB:1"],
    ]
    plan, settle = StageKey(pb.STAGE_PLAN, "A"), StageKey(pb.STAGE_SETTLE, "A")
    assert stages_before(plan, RUN, grouped) == [settle]
    assert stages_before(plan, RUN, PLAIN) == [StageKey(pb.STAGE_SCORE, "A")]
    assert StageKey(pb.STAGE_SCORE, "A").place < settle.place < plan.place


def test_the_first_stage_that_reads_may_quarantine() -> None:
    assert reading_stages(RUN) == (MATCH, FREEZE)
    assert reading_stages(RUN, early=True) == (MATCH, SEAL)
    for early in (False, True):
        found = reading_stages(DEDUP_RUN, early)
        assert found == (StageKey(pb.STAGE_KEYS), StageKey(pb.STAGE_DEDUP))


def test_counts_that_are_frozen_early() -> None:
    """Scoring begins, what follows it waits for all of matching, and only its end is the end."""
    emissions, score = {"A": PLAIN}, StageKey(pb.STAGE_SCORE, "A")
    tallies = {MATCH: StageTally(3, done=1, ready=2)}
    assert list(due_stages(RUN, emissions, tallies, {}, early=True)) == [(MATCH, 3), (FREEZE, 1)]
    tallies[FREEZE] = StageTally(1, done=1)
    tallies[score] = StageTally(3, done=1, waiting=2)
    due = [key for key, _ in due_stages(RUN, emissions, tallies, {}, early=True)]
    assert due == [MATCH, FREEZE, score]
    tallies |= {MATCH: StageTally(3, done=3), score: StageTally(3, done=3)}
    due = [key for key, _ in due_stages(RUN, emissions, tallies, {}, early=True)]
    assert due == [MATCH, FREEZE, SEAL, score]
    assert run_state(False, {}, tallies, early=True) == pb.RUN_STATE_ACTIVE
    tallies[SEAL] = StageTally(1, done=1)
    due = [key for key, _ in due_stages(RUN, emissions, tallies, {}, early=True)]
    assert due == [MATCH, FREEZE, SEAL, score, StageKey(pb.STAGE_PLAN, "A")]
    assert sorted(due, key=lambda key: key.place) == [MATCH, FREEZE, score, SEAL, due[-1]]
    assert run_state(False, {}, tallies, early=True) == pb.RUN_STATE_DONE


@pytest.mark.parametrize("first", [pb.STAGE_PLAN, pb.STAGE_GATHER])
def test_what_follows_scoring_needs_the_seal(first: pb.Stage.ValueType) -> None:
    group = pb.GROUP_URL if first == pb.STAGE_GATHER else pb.GROUP_UNSPECIFIED
    emission, after = pb.EmissionSpec(group=group), StageKey(first, "A")
    score = StageKey(pb.STAGE_SCORE, "A")
    assert stages_before(after, RUN, emission, early=True) == [score, SEAL]
    assert stages_before(after, RUN, emission) == [score]
    assert stages_before(score, RUN, emission, early=True) == [FREEZE]
    assert stages_before(SEAL, RUN, early=True) == [MATCH, FREEZE]
    assert stages_before(FREEZE, RUN) == [MATCH]


def test_tasks_that_wait_are_no_work_that_can_be_done() -> None:
    score = StageKey(pb.STAGE_SCORE, "A")
    tallies = {MATCH: StageTally(3, done=2, blocked=1), FREEZE: StageTally(1, done=1)}
    tallies[score] = StageTally(3, done=2, waiting=1)
    assert run_state(False, {"A": PLAIN}, tallies, early=True) == pb.RUN_STATE_BLOCKED


def test_an_emission_without_parts_is_published_all_the_same() -> None:
    assert walk({"A": PLAIN}, {"A": 0})[-2:] == [["writeA:0"], ["publishA:1"]]


def test_a_slow_emission_does_not_hold_up_another() -> None:
    score = StageKey(pb.STAGE_SCORE, "A")
    tallies = {
        MATCH: StageTally(**DONE),
        FREEZE: StageTally(1, done=1),
        score: StageTally(3, done=2, leased=1),
        StageKey(pb.STAGE_SCORE, "B"): StageTally(**DONE),
    }
    due = list(due_stages(RUN, {"A": PLAIN, "B": PLAIN}, tallies, {}))
    assert (StageKey(pb.STAGE_PLAN, "B"), 1) in due
    assert StageKey(pb.STAGE_PLAN, "A") not in dict(due)


@pytest.mark.parametrize("state", ["ready", "leased", "blocked"])
def test_an_unfinished_stage_opens_nothing(state: str) -> None:
    tallies = {MATCH: StageTally(3, done=2, **{state: 1})}
    assert list(due_stages(RUN, {"A": PLAIN}, tallies, {})) == [(MATCH, 3)]
    assert stability(tallies, converged=False) == pb.STABILITY_COUNTING
    assert stability(tallies, converged=True) == pb.STABILITY_CONVERGED


def test_what_is_quarantined_counts_as_finished() -> None:
    tallies = {MATCH: StageTally(3, done=1, quarantined=2)}
    assert (FREEZE, 1) in list(due_stages(RUN, {}, tallies, {}))
    assert stability(tallies, converged=False) == pb.STABILITY_COMPLETE
    assert stability(tallies, converged=True) == pb.STABILITY_COMPLETE
    assert stability({}, converged=False) == pb.STABILITY_COUNTING


def test_last_stages() -> None:
    assert last_stage(PLAIN) == pb.STAGE_PUBLISH
    assert last_stage(TRAINED) == pb.STAGE_TRAIN


PUBLISHED = {
    MATCH: StageTally(**DONE),
    FREEZE: StageTally(1, done=1),
    StageKey(pb.STAGE_PUBLISH, "A"): StageTally(1, done=1),
}


def test_done_needs_every_emission() -> None:
    assert run_state(False, {"A": PLAIN}, PUBLISHED) == pb.RUN_STATE_DONE
    assert run_state(False, {"A": TRAINED}, PUBLISHED) == pb.RUN_STATE_ACTIVE
    assert run_state(False, {"A": PLAIN, "B": PLAIN}, PUBLISHED) == pb.RUN_STATE_ACTIVE
    assert run_state(False, {}, {}) == pb.RUN_STATE_ACTIVE


def test_cancelled_comes_first() -> None:
    assert run_state(True, {"A": PLAIN}, PUBLISHED) == pb.RUN_STATE_CANCELLED


@pytest.mark.parametrize(("ready", "leased", "blocked"), list(itertools.product([0, 1], repeat=3)))
def test_blocked_means_that_nothing_else_can_be_done(ready: int, leased: int, blocked: int) -> None:
    tallies = {MATCH: StageTally(5, ready=ready, leased=leased, blocked=blocked, done=1)}
    is_blocked = blocked and not ready and not leased
    expected = pb.RUN_STATE_BLOCKED if is_blocked else pb.RUN_STATE_ACTIVE
    assert run_state(False, {}, tallies) == expected


@given(st.integers(0, 200), st.integers(0, 2**64 - 1))
def test_hand_out_is_an_order_of_all_tasks(total: int, seed: int) -> None:
    scores = hand_out_scores(total, seed)
    assert sorted(scores) == [i / max(total, 1) for i in range(total)]
    assert scores == hand_out_scores(total, seed)


def test_hand_out_depends_on_the_seed() -> None:
    assert hand_out_scores(50, 1) != hand_out_scores(50, 2) != list(range(50))
