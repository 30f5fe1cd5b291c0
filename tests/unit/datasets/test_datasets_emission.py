import itertools
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.balancing import Cut, tail_share_of, threshold_for
from clipcurate.balancing.sizes import estimate
from clipcurate.datasets.emission import (
    EmissionPlan,
    EmissionRequest,
    Scored,
    Totals,
    first_kept,
    kept_mask,
    part_records,
    resolve_cuts,
    totals_of,
)
from clipcurate.datasets.match_index import MatchIndex, Status, extras_to_hex
from clipcurate.errors import InvalidInputError
from clipcurate.hashing import hash_json
from clipcurate.matching import Matches
from clipcurate.metadata import ALL

RAW, MATCHED = EmissionRequest("raw"), EmissionRequest("matched")
BALANCED = EmissionRequest("balanced", t=4.0, seed=7)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "all"}, "unknown kind 'all'; known: raw, matched, balanced"),
        ({"kind": "balanced"}, "exactly one"),
        ({"kind": "balanced", "t": 1.0, "size": 1}, "exactly one"),
        ({"kind": "matched", "t": 1.0}, "others take none"),
        ({"kind": "raw", "size": 1}, "others take none"),
        ({"kind": "raw", "tail_share": 0.1}, "others take none"),
        ({"kind": "balanced", "t": 0.0}, "positive and finite"),
        ({"kind": "balanced", "t": -1.0}, "positive and finite"),
        ({"kind": "balanced", "t": float("inf")}, "positive and finite"),
        ({"kind": "balanced", "t": float("nan")}, "positive and finite"),
        ({"kind": "balanced", "size": 0}, "at least 1"),
        ({"kind": "balanced", "size": 1 << 63}, "below"),
        ({"kind": "balanced", "tail_share": 0.0}, "between 0 and 1"),
        ({"kind": "balanced", "tail_share": 1.0}, "between 0 and 1"),
        ({"kind": "raw", "seed": -1}, "seed -1"),
        ({"kind": "raw", "seed": 1 << 64}, "seed 18446744073709551616"),
        ({"kind": "raw", "round": -1}, "round -1"),
        ({"kind": "raw", "round": 1 << 32}, "round 4294967296"),
        ({"kind": "raw", "part_bytes": -1}, "part_bytes -1"),
        ({"kind": "raw", "part_bytes": 0}, "part_bytes must be at least 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        EmissionRequest(**fields)


def test_identity_is_json_and_tells_requests_apart() -> None:
    run = {"id": "r", "rule": "metaclip1", "metadata": {"all": "f"}}
    requests = [
        RAW,
        MATCHED,
        BALANCED,
        replace(BALANCED, t=np.nextafter(4.0, 5)),
        replace(BALANCED, seed=8),
        replace(BALANCED, round=1),
        replace(BALANCED, part_bytes=1000),
        EmissionRequest("balanced", size=4),
        EmissionRequest("balanced", tail_share=0.5),
    ]
    ids = {hash_json(request.identity(run, "s")) for request in requests}
    ids |= {hash_json(RAW.identity(run, "t")), hash_json(RAW.identity({**run, "id": "q"}, "s"))}
    assert len(ids) == len(requests) + 2
    identity = BALANCED.identity(run, "s")
    assert json.loads(json.dumps(identity)) == identity
    assert identity["target"] == {"t": "0x1.0000000000000p+2"}


def test_a_whole_t_is_the_same_t() -> None:
    whole = EmissionRequest("balanced", t=4, seed=7)
    assert whole.identity({}, "s") == BALANCED.identity({}, "s")
    (cut,) = resolve_cuts(whole, {ALL: np.array([1])}, []).values()
    assert cut.to_json() == Cut(4.0).to_json()


@given(st.lists(st.lists(st.integers(0, 99), min_size=7, max_size=7), max_size=4))
def test_totals_add_up(rows: list[list[int]]) -> None:
    total = sum((Totals(*row) for row in rows), Totals())
    assert list(vars(total).values()) == [sum(row[i] for row in rows) for i in range(7)]
    assert total.pairs == sum(map(sum, rows))


STATUSES = st.lists(
    st.tuples(st.sampled_from(Status), st.sampled_from([1.0, 4.0, 5.0])), max_size=9
)


def index_with(statuses: list[tuple[Status, float]]) -> Scored:
    n = len(statuses)
    index = MatchIndex(
        shard=np.zeros(n, np.int32),
        row=np.arange(n),
        text_index=np.zeros(n, np.int32),
        uids=np.zeros((n, 2), np.uint64),
        coin_keys=np.zeros((n, 2), np.uint64),
        language=np.array([ALL] * n, np.str_),
        status=np.array([status for status, _ in statuses], np.uint8),
        reason=np.array([""] * n, np.str_),
        row_bytes=np.ones(n, np.int64),
        matches=Matches(np.zeros(n + 1, np.int64), np.zeros(0, np.uint32)),
        extras=pa.schema([]),
    )
    return Scored(index, np.array([critical for _, critical in statuses], np.float64))


@given(STATUSES)
def test_every_pair_has_one_of_seven_outcomes(statuses: list[tuple[Status, float]]) -> None:
    scored = index_with(statuses)
    readable = {Status.UNMATCHED, Status.NOT_CHOSEN, Status.MATCHED}
    expected = {
        "raw": [status in readable for status, _ in statuses],
        "matched": [status == Status.MATCHED for status, _ in statuses],
        "balanced": [status == Status.MATCHED and t <= 4.0 for status, t in statuses],
    }
    for kind, mask in expected.items():
        kept = kept_mask(kind, {ALL: Cut(4.0)}, scored)  # type: ignore[arg-type]
        assert kept.tolist() == mask
        totals = totals_of(scored.index, kept)
        assert totals.pairs == len(statuses)
        assert totals.kept == sum(mask)
        assert totals.rejected == sum(s == Status.REJECTED for s, _ in statuses)
        assert totals.filtered == sum(s == Status.FILTERED for s, _ in statuses)
        assert totals.duplicate == sum(s == Status.DUPLICATE for s, _ in statuses)
    assert totals.dropped == sum(s == Status.MATCHED and t > 4.0 for s, t in statuses)


def test_cuts_are_per_language() -> None:
    scored = index_with([(Status.MATCHED, 1.0), (Status.MATCHED, 4.0), (Status.MATCHED, 1.0)])
    scored.index.language[:] = ["all", "all", "zh"]
    assert kept_mask("balanced", {"all": Cut(4.0)}, scored).tolist() == [True, True, False]
    cuts = {"all": Cut(1.0), "zh": Cut(0.5)}
    assert kept_mask("balanced", cuts, scored).tolist() == [True, False, False]


def test_first_kept_marks_one_pair_per_row() -> None:
    scored = index_with([(Status.MATCHED, 1.0)] * 6)
    scored.index.row[:] = [0, 0, 0, 1, 1, 1]
    scored.index.shard[:] = [0, 0, 0, 0, 1, 1]
    kept = np.array([False, True, True, True, False, True])
    assert first_kept(scored.index, kept).tolist() == [False, True, False, True, False, True]


@pytest.mark.parametrize(
    ("records", "nbytes", "size", "expected"),
    [(10, 1000, 100, 1), (10, 1000, 250, 2), (10, 1000, 10**9, 10**7), (0, 0, 5, 1), (9, 0, 5, 45),
     (10, 1000, 1, 1)],
)  # fmt: skip
def test_part_records(records: int, nbytes: int, size: int, expected: int) -> None:
    assert part_records(records, nbytes, size) == expected


def plan_with(kept_records: list[int], records: int) -> EmissionPlan:
    return EmissionPlan(
        *("e", {}, RAW, {}, Totals(), 0.0, 0.0), kept_records, records, extras_to_hex(pa.schema([]))
    )


@given(st.lists(st.integers(0, 9), max_size=8), st.integers(1, 12))
def test_parts_cover_all_records_without_gaps(kept_records: list[int], records: int) -> None:
    plan = plan_with(kept_records, records)
    expected = [(task, i) for task, number in enumerate(kept_records) for i in range(number)]
    parts = [
        [(task, i) for task, first, last in plan.tasks_of(part) for i in range(first, last)]
        for part in range(plan.num_parts)
    ]
    assert [place for part in parts for place in part] == expected
    assert all(len(part) == records for part in parts[:-1])
    assert all(0 < len(part) <= records for part in parts)


@given(st.integers(0, 40), st.lists(st.integers(0, 40), max_size=5), st.integers(1, 12))
def test_parts_do_not_depend_on_the_cut_into_tasks(
    total: int, cuts: list[int], records: int
) -> None:
    edges = [0, *sorted(min(cut, total) for cut in cuts), total]
    split = [b - a for a, b in itertools.pairwise(edges)]
    whole, tasks = plan_with([total], records), plan_with(split, records)
    assert whole.num_parts == tasks.num_parts
    for part in range(whole.num_parts):
        (expected,) = whole.tasks_of(part)
        records_of = [i + edges[t] for t, a, b in tasks.tasks_of(part) for i in range(a, b)]
        assert records_of == list(range(*expected[1:]))


REQUESTS = [
    RAW,
    MATCHED,
    BALANCED,
    EmissionRequest("balanced", size=11, seed=1),
    EmissionRequest("balanced", tail_share=0.2, seed=2, part_bytes=500),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: f"{r.kind}-{r.size}-{r.tail_share}")
def test_plans_do_not_depend_on_tasks(make_run, parquet_pool, request_) -> None:  # type: ignore[no-untyped-def]
    one = make_run(parquet_pool).plan_for(request_)
    many = make_run(parquet_pool, task_rows=9).plan_for(request_)
    assert len(many.kept_records) > len(one.kept_records)
    assert sum(many.kept_records) == sum(one.kept_records)
    for name in ("emission_id", "identity", "cuts", "totals", "part_records", "extras"):
        assert getattr(one, name) == getattr(many, name), name
    assert one.expected == pytest.approx(many.expected)
    assert EmissionPlan.from_bytes(one.to_bytes()) == one


def test_the_plan_of_a_pool_by_brute_force(
    make_run: Callable[..., Any], parquet_pool: Path
) -> None:
    run = make_run(parquet_pool)
    plan = run.plan_for(BALANCED)
    counts = run.counts[ALL]
    sizes = estimate(counts, [index.in_language(ALL) for index in run.indexes], 4.0)
    assert plan.expected == pytest.approx(sizes.expected)
    assert plan.deviation == pytest.approx(sizes.deviation)
    critical = np.concatenate([scored.critical for scored in run.scored(BALANCED)])
    assert plan.totals.kept == (critical <= 4.0).sum()
    assert plan.totals.pairs == len(critical)
    assert asdict(plan.totals)["dropped"] == ((critical > 4.0) & np.isfinite(critical)).sum()


def test_every_size_is_exact(make_run, parquet_pool) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool, task_rows=20)
    for size in range(1, run.plan_for(MATCHED).totals.kept + 1):
        assert run.plan_for(EmissionRequest("balanced", size=size)).totals.kept == size


def test_targets_become_cuts() -> None:
    counts = {"en": np.array([1, 3, 6, 10]), "zh": np.array([5, 5])}
    assert resolve_cuts(RAW, counts, []) == {}
    assert resolve_cuts(BALANCED, counts, []) == {"en": Cut(4.0), "zh": Cut(5.0)}
    assert resolve_cuts(BALANCED, {"all": counts["en"]}, []) == {"all": Cut(4.0)}
    shares = resolve_cuts(EmissionRequest("balanced", tail_share=0.15), counts, [])
    assert shares == {name: Cut(threshold_for(counts[name], 0.15)) for name in counts}
    assert tail_share_of(counts["en"], shares["en"].t) == 0.05
    with pytest.raises(InvalidInputError, match="one language"):
        resolve_cuts(EmissionRequest("balanced", size=1), counts, [])


def test_a_size_above_the_matched_pairs_is_refused(make_run, parquet_pool) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    matched = run.plan_for(MATCHED).totals.kept
    assert run.plan_for(EmissionRequest("balanced", size=matched)).totals.dropped == 0
    with pytest.raises(InvalidInputError, match=f"ask for 1 to {matched}"):
        run.plan_for(EmissionRequest("balanced", size=matched + 1))
