from dataclasses import replace
from pathlib import Path

import pytest

from clipcurate.datasets.cuts import resolve_cuts
from clipcurate.datasets.match_index import extras_to_hex
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.task_summary import UNIT, TaskSummary
from clipcurate.metadata import ALL

RAW, MATCHED = EmissionRequest("raw"), EmissionRequest("matched")
BALANCED = EmissionRequest("balanced", t=4.0, seed=7)
CHOSEN = replace(BALANCED, semantics="metaclip2")


@pytest.mark.parametrize("request_", [RAW, MATCHED, BALANCED, CHOSEN], ids=str)
def test_a_summary_is_what_the_rows_say(make_run, parquet_pool: Path, request_) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    cuts = resolve_cuts(request_, run.counts, ())
    (task,) = run.scored(request_)
    summary = TaskSummary.of(request_, run.counts, cuts, task)
    index, rows, kept = task.index, {}, 0
    for i, critical in enumerate(task.critical.tolist()):
        readable, matched = index.status[i] >= 3, critical < float("inf")
        if {"raw": readable, "matched": matched, "balanced": critical <= 4.0}[request_.kind]:
            kept += 1
            rows[int(index.shard[i]), int(index.row[i])] = int(index.row_bytes[i])
    assert (summary.totals.kept, summary.totals.pairs) == (kept, len(index))
    assert (summary.records, summary.nbytes) == (len(rows), sum(rows.values()))
    assert summary.extras == extras_to_hex(index.extras)
    assert TaskSummary.from_bytes(summary.to_bytes()) == summary


def test_expected_sizes_are_sums_over_pairs(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    (task,) = run.scored(BALANCED)
    mean = variance = 0.0
    for row in range(len(task.index)):
        miss = 1.0
        for entry in task.index.matches[row].tolist():
            miss *= 1 - min(1.0, 4.0 / run.counts[ALL][entry])
        mean += 1 - miss
        variance += miss * (1 - miss)
    cuts = resolve_cuts(BALANCED, run.counts, ())
    summary = TaskSummary.of(BALANCED, run.counts, cuts, task)
    assert summary.expected / UNIT == pytest.approx(mean, rel=1e-6)
    assert summary.variance / UNIT == pytest.approx(variance, rel=1e-6)
    everything = TaskSummary.of(MATCHED, run.counts, {}, task)
    assert (everything.expected, everything.variance) == (everything.totals.kept * UNIT, 0)


@pytest.mark.parametrize("request_", [RAW, BALANCED, CHOSEN], ids=str)
def test_sums_do_not_depend_on_tasks(make_run, parquet_pool: Path, request_) -> None:  # type: ignore[no-untyped-def]
    plans = [make_run(parquet_pool, task_rows=rows).plan_for(request_) for rows in (9, 20, 1000)]
    sums = [(plan.totals, plan.expected, plan.deviation, plan.part_records) for plan in plans]
    assert sums[0] == sums[1] == sums[2]
