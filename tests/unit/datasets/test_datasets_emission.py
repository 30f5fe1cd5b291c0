import itertools
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.balancing import Cut, keep_probability
from clipcurate.datasets.cuts import resolve_cuts
from clipcurate.datasets.emission import EmissionPlan, part_records
from clipcurate.datasets.match_index import extras_to_hex
from clipcurate.datasets.outcomes import Totals
from clipcurate.datasets.request import EmissionRequest
from clipcurate.errors import InvalidInputError
from clipcurate.metadata import ALL

RAW, MATCHED = EmissionRequest("raw"), EmissionRequest("matched")
BALANCED = EmissionRequest("balanced", t=4.0, seed=7)


def test_a_whole_t_is_the_same_t() -> None:
    whole = EmissionRequest("balanced", t=4, seed=7)
    assert whole.identity({}, "s") == BALANCED.identity({}, "s")
    (cut,) = resolve_cuts(whole, {ALL: np.array([1])}, []).values()
    assert cut.to_json() == Cut(4.0).to_json()


@pytest.mark.parametrize(
    ("records", "nbytes", "size", "expected"),
    [(10, 1000, 100, 1), (10, 1000, 250, 2), (10, 1000, 10**9, 10**7), (0, 0, 5, 1), (9, 0, 5, 45),
     (10, 1000, 1, 1)],
)  # fmt: skip
def test_part_records(records: int, nbytes: int, size: int, expected: int) -> None:
    assert part_records(records, nbytes, size) == expected


def plan_with(kept_records: list[int], records: int) -> EmissionPlan:
    return EmissionPlan(
        emission_id="e",
        identity={},
        request=RAW,
        cuts={},
        totals=Totals(),
        expected=0.0,
        deviation=0.0,
        kept_records=kept_records,
        part_records=records,
        extras=extras_to_hex(pa.schema([])),
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
    EmissionRequest("matched", semantics="metaclip2"),
    EmissionRequest("balanced", t=4.0, seed=7, semantics="metaclip2"),
    EmissionRequest("balanced", size=9, seed=7, semantics="metaclip2"),
    EmissionRequest("balanced", t=4.0, seed=7, semantics="record"),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=str)
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
    q = np.concatenate([keep_probability(i.in_language(ALL), counts, 4.0) for i in run.indexes])
    assert plan.expected == pytest.approx(q.sum())
    assert plan.deviation == pytest.approx(np.sqrt((q * (1 - q)).sum()))
    critical = np.concatenate([scored.critical for scored in run.scored(BALANCED)])
    assert plan.totals.kept == (critical <= 4.0).sum()
    assert plan.totals.pairs == len(critical)
    assert asdict(plan.totals)["dropped"] == ((critical > 4.0) & np.isfinite(critical)).sum()


@pytest.mark.parametrize("semantics", ["pair", "metaclip2"])
def test_every_size_is_exact(make_run, parquet_pool, semantics) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool, task_rows=20)
    whole = run.plan_for(replace(MATCHED, semantics=semantics)).totals.kept
    for size in range(1, whole + 1):
        request = EmissionRequest("balanced", size=size, semantics=semantics)
        assert run.plan_for(request).totals.kept == size
    with pytest.raises(InvalidInputError, match=f"ask for 1 to {whole}"):
        run.plan_for(EmissionRequest("balanced", size=whole + 1, semantics=semantics))


def test_a_size_above_the_matched_pairs_is_refused(make_run, parquet_pool) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    matched = run.plan_for(MATCHED).totals.kept
    assert run.plan_for(EmissionRequest("balanced", size=matched)).totals.dropped == 0
    with pytest.raises(InvalidInputError, match=f"ask for 1 to {matched}"):
        run.plan_for(EmissionRequest("balanced", size=matched + 1))
