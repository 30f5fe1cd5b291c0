import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipcurate.balancing import Groups, keep_probability, size_law
from clipcurate.balancing.sizes import estimate, top_entries


def laws(csr, counts, parts, t):  # type: ignore[no-untyped-def]
    for part in parts:
        yield size_law(
            "pair", keep_probability(csr(part), counts, t), Groups.of(np.arange(len(part)))
        )


@settings(max_examples=100)
@given(
    st.lists(st.lists(st.sets(st.integers(0, 5)).map(sorted), max_size=5), max_size=3),
    st.floats(0.01, 20),
)
def test_estimate_by_brute_force(csr, parts: list[list[list[int]]], t: float) -> None:  # type: ignore[no-untyped-def]
    rows = [row for part in parts for row in part]
    counts = [sum(e in row for row in rows) for e in range(6)]
    found = estimate(np.array(counts), laws(csr, np.array(counts), parts, t), t)
    q = [1 - math.prod(1 - min(1, t / counts[e]) for e in row) for row in rows]
    assert found.t == t
    assert found.expected == pytest.approx(sum(q))
    assert found.deviation == pytest.approx(math.sqrt(sum(p * (1 - p) for p in q)), abs=1e-9)
    assert found.head_entries == sum(c > t for c in counts)
    assert found.tail_entries == sum(0 < c <= t for c in counts)
    assert found.empty_entries == counts.count(0)
    assert found.head_count == sum(c for c in counts if c > t)
    assert found.slots == pytest.approx(sum(min(c, t) for c in counts))
    assert found.tail_share == pytest.approx(sum(c for c in counts if c < t) / max(sum(counts), 1))


def test_pairs_share_their_entries_slots(csr) -> None:  # type: ignore[no-untyped-def]
    """As the paper's 640M slots in 400M pairs: coins that succeed, and pairs that they keep."""
    counts = np.array([2, 2])
    found = estimate(counts, laws(csr, counts, [[[0, 1], [0, 1]]], 1.0), 1.0)
    assert found.slots == 2
    assert found.expected == 1.5


def test_top_entries_ties_by_id() -> None:
    counts = np.array([3, 9, 3, 0, 9])
    assert top_entries(counts, ["a", "b", "c", "d", "e"], 3) == [("b", 9), ("e", 9), ("a", 3)]
    assert len(top_entries(counts, ["a", "b", "c", "d", "e"], 99)) == 5
