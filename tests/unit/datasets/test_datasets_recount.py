from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.datasets.recount import Difference, compare, recount
from clipcurate.metadata import ALL


def test_recount_by_brute_force(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool, task_rows=20)
    hits = Counter(hit for index in run.indexes for row in index.matches for hit in row.tolist())
    counts = recount({ALL: len(run.counts[ALL]), "de": 3}, iter(run.indexes))
    assert counts[ALL].tolist() == [hits[entry] for entry in range(len(run.counts[ALL]))]
    assert counts["de"].tolist() == [0, 0, 0]


PAIRS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12)


@given(PAIRS, st.integers(0, 4))
def test_differences_by_brute_force(pairs: list[tuple[int, int]], largest: int) -> None:
    found, truth = (np.array([pair[i] for pair in pairs], np.int64) for i in (0, 1))
    (one,) = compare({"en": found}, {"en": truth}, largest)
    apart = [(i, a, b) for i, (a, b) in enumerate(pairs) if a != b]
    top = sorted(apart, key=lambda entry: (-abs(entry[1] - entry[2]), entry[0]))[:largest]
    sums = sum(a for a, _ in pairs), sum(b for _, b in pairs)
    assert one == Difference("en", len(pairs), len(apart), *sums, tuple(top))
