import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.balancing import Cut, exact_size_cut
from clipcurate.balancing.cut import RANK, Ranks, histogram
from clipcurate.errors import InvalidInputError

INF = float("inf")
CRITICAL = st.sampled_from([5e-324, 0.1, 1.0, math.nextafter(1.0, 2), 7.0, 7.0001, 1e12, INF])
Pair = tuple[float, tuple[int, int], int, int, int]
"""Critical t, halves of the uid, shard, row, text index."""

POOL = st.lists(
    st.tuples(
        CRITICAL,
        st.tuples(st.sampled_from([0, 1, 1 << 63]), st.sampled_from([0, 1, (1 << 64) - 1])),
        st.integers(0, 2),
        st.sampled_from([0, 1, 255, 256, 1 << 40]),
        st.integers(0, 1),
    ),
    max_size=24,
    unique_by=lambda pair: pair[2:],
)


def arrays(pairs: list[Pair]) -> tuple[np.ndarray, Ranks]:
    ranks = np.zeros(len(pairs), RANK)
    for i, (_, uid, shard, row, text_index) in enumerate(pairs):
        ranks[i] = (uid, shard, row, text_index)
    return np.array([pair[0] for pair in pairs], np.float64), ranks


@given(POOL, st.integers(1, 4))
def test_every_size_is_exact_however_the_pool_is_split(pool: list[Pair], split: int) -> None:
    parts = [arrays(pool[i::split]) for i in range(split)]
    bins = sum((histogram(critical) for critical, _ in parts), np.zeros(1 << 16, np.int64))
    order = sorted(pair for pair in pool if pair[0] < INF)
    for size in range(1, len(order) + 1):
        cut = exact_size_cut(size, bins, iter(parts))
        kept = [
            pair
            for i, part in enumerate(parts)
            for pair, keeps in zip(
                pool[i::split], cut.keeps(part[0], part[1].__getitem__), strict=True
            )
            if keeps
        ]
        assert sorted(kept) == order[:size]
        assert Cut.from_json(json.loads(json.dumps(cut.to_json()))) == cut
    with pytest.raises(InvalidInputError, match=f"ask for 1 to {len(order)}"):
        exact_size_cut(len(order) + 1, bins, iter(parts))


@pytest.mark.parametrize("size", [0, -1])
def test_no_size_below_one(size: int) -> None:
    critical, ranks = arrays([(1.0, (0, 0), 0, 0, 0)])
    with pytest.raises(InvalidInputError, match="cannot be had"):
        exact_size_cut(size, histogram(critical), [(critical, ranks)])


@given(st.lists(st.tuples(CRITICAL), max_size=10), st.floats(0, 1e13))
def test_a_threshold_keeps_all_ties(values: list[tuple[float]], t: float) -> None:
    critical, _ = arrays([(value, (0, 0), 0, i, 0) for i, (value,) in enumerate(values)])

    def never(_: object) -> Ranks:
        raise AssertionError("a threshold needs no ranks")

    assert Cut(t).keeps(critical, never).tolist() == [value <= t for (value,) in values]


def test_ranks_sort_as_bytes() -> None:
    pairs = [(1.0, (h, low), s, r, x) for h in (0, 256) for low in (1, 256) for s in (0, 256)
             for r in (1, 1 << 40) for x in (0, 256)]  # fmt: skip
    _, ranks = arrays(pairs)
    assert [rank.tobytes() for rank in ranks] == sorted(rank.tobytes() for rank in ranks)
    assert RANK.itemsize == 32


@given(
    st.floats(0, exclude_min=True, allow_infinity=False),
    st.none() | st.binary(min_size=32, max_size=32),
)
def test_json_round_trip_is_exact(t: float, last: bytes | None) -> None:
    cut = Cut(t, last)
    assert Cut.from_json(json.loads(json.dumps(cut.to_json()))) == cut


def test_histograms_add_up_and_skip_what_has_no_hit() -> None:
    critical = np.array([0.5, 1.0, 1.0, INF, 3.0, 1e300, 5e-324])
    bins = histogram(critical)
    assert bins.shape == (1 << 16,)
    assert bins.sum() == 6
    assert np.array_equal(bins, histogram(critical[:3]) + histogram(critical[3:]))
    assert np.flatnonzero(bins)[0] == 0
    assert bins[0x3FF0] == 2
    assert histogram(np.zeros(0)).sum() == 0


POSITIVE = st.floats(0, exclude_min=True, allow_infinity=False)


@given(POSITIVE, st.integers(-3, 3))
def test_at_the_base_the_ratio_says_what_the_threshold_says(base: float, steps: int) -> None:
    """critical_ratio <= 1 if and only if critical_t <= t, also for neighbouring floats."""
    critical = base
    for _ in range(abs(steps)):
        critical = math.nextafter(critical, math.copysign(INF, steps))
    assert (critical / base <= 1) == (critical <= base)


@given(POSITIVE, POSITIVE)
def test_a_ratio_as_a_threshold_is_the_largest_it_keeps(base: float, ratio: float) -> None:
    t = Cut(ratio, bytes(32)).times(base).t
    assert t / base <= ratio
    above = math.nextafter(t, INF)
    assert above == INF or above / base > ratio


@pytest.mark.parametrize("base", [3.0, 1.0, 0.1])
def test_ties_of_the_ratio_go_by_rank(base: float) -> None:
    """Neighbouring floats can have one ratio: then all of them are on the cut."""
    numbers = [base * 7]
    for _ in range(12):
        numbers.append(math.nextafter(numbers[-1], INF))
    pairs = [(number, (0, 0), 0, row, 0) for row, number in enumerate(reversed(numbers))]
    critical, ranks = arrays(pairs)
    order = sorted((c / base, row) for c, _, _, row, _ in pairs)
    for size, (ratio, row) in enumerate(order, 1):
        cut = Cut(ratio, ranks[row].tobytes()).times(base)
        kept = np.flatnonzero(cut.keeps(critical, ranks.__getitem__))
        assert sorted((pairs[i][0] / base, i) for i in kept) == order[:size]
        assert Cut.from_json(json.loads(json.dumps(cut.to_json()))) == cut
