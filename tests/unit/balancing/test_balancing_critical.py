import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clipcurate.balancing import coins, critical_t, keep_probability
from clipcurate.errors import InvalidInputError

TOP = 2**53
COUNTS = st.integers(1, 12) | st.integers(1, 10**6) | st.integers(1, 10**12)
NUMERATORS = (
    st.integers(0, TOP - 1)
    | st.sampled_from([0, 1, 2, 3, TOP // 2, TOP - 3, TOP - 2, TOP - 1])
    | st.integers(0, 53).map(lambda bits: TOP - (TOP >> bits))
)


def miss(counts: Sequence[int], t: float) -> float:
    """The probability that all coins fail, as documented."""
    product = 1.0
    for count in counts:
        product *= 1.0 - min(1.0, t / count)
    return product


def one(csr, key: tuple[int, int], counts: list[int], seed: int = 0) -> float:  # type: ignore[no-untyped-def]
    matches = csr([list(range(len(counts)))])
    return float(critical_t(matches, np.array(counts), np.array([key], np.uint64), seed)[0])


@settings(max_examples=1000)
@given(st.lists(COUNTS, min_size=1, max_size=12), NUMERATORS)
@example([3], TOP - 1)
@example([49], TOP - 1)
@example([1] * 12, TOP - 1)
@example([10**12] * 12, 0)
@example([1], 0)
@example([1, 10**12], 1)
def test_is_the_smallest_float_that_keeps(csr, key_for, counts: list[int], numerator: int) -> None:  # type: ignore[no-untyped-def]
    t = one(csr, key_for(numerator), counts)
    u = numerator / TOP
    assert miss(counts, t) < 1 - u
    assert not miss(counts, math.nextafter(t, 0)) < 1 - u
    assert 0 < t <= min(counts)


@pytest.mark.parametrize("numerator", [TOP - 1, TOP - 2, TOP - 3, 0, 1])
def test_extreme_coins_with_every_small_count(csr, key_for, numerator: int) -> None:  # type: ignore[no-untyped-def]
    sizes = np.arange(1, 2000)
    rows = csr([[i] for i in range(len(sizes))])
    keys = np.array([key_for(numerator)] * len(sizes), np.uint64)
    for count, t in zip(sizes.tolist(), critical_t(rows, sizes, keys, 0).tolist(), strict=True):
        assert miss([count], t) < 1 - numerator / TOP
        assert not miss([count], math.nextafter(t, 0)) < 1 - numerator / TOP


def test_of_one_entry_is_u_times_its_count(csr, random_keys) -> None:  # type: ignore[no-untyped-def]
    keys, counts = random_keys(1000), np.array([20_000])
    t = critical_t(csr([[0]] * 1000), counts, keys, 1)
    assert np.allclose(t, coins(keys, 1) * 20_000, rtol=1e-12)


def test_of_two_equal_entries_by_hand(csr, key_for) -> None:  # type: ignore[no-untyped-def]
    t = one(csr, key_for(TOP * 3 // 4), [100, 100])
    assert t == pytest.approx(50)  # (1 - t / 100)² = 1/4


def test_a_pair_without_hits_is_never_kept(csr, random_keys) -> None:  # type: ignore[no-untyped-def]
    t = critical_t(csr([[], [0], []]), np.array([5]), random_keys(3), 0)
    assert np.isinf(t).tolist() == [True, False, True]
    assert critical_t(csr([]), np.array([5]), random_keys(0), 0).tolist() == []


@settings(max_examples=100)
@given(st.data())
def test_kept_by_critical_t_is_kept_by_the_rule(csr, random_keys, data: st.DataObject) -> None:  # type: ignore[no-untyped-def]
    counts = data.draw(st.lists(COUNTS, min_size=1, max_size=6))
    ids = st.sets(st.integers(0, len(counts) - 1)).map(sorted)
    rows = data.draw(st.lists(ids, min_size=1, max_size=20))
    seed = data.draw(st.integers(0, 2**64 - 1))
    keys = random_keys(len(rows))
    t = critical_t(csr(rows), np.array(counts), keys, seed)
    u = coins(keys, seed).tolist()
    before: set[int] = set()
    drawn = data.draw(st.lists(st.floats(1e-3, 2e12), max_size=5))
    for threshold in sorted([*drawn, *t[np.isfinite(t)].tolist()]):
        expected = {
            i for i, row in enumerate(rows) if miss([counts[e] for e in row], threshold) < 1 - u[i]
        }
        assert set(np.flatnonzero(t <= threshold).tolist()) == expected
        assert before <= expected
        before = expected


def test_entries_below_t_keep_all_their_pairs(csr, random_keys) -> None:  # type: ignore[no-untyped-def]
    t = critical_t(csr([[0, 1]] * 5000), np.array([7, 10**9]), random_keys(5000), 2)
    assert (t <= 7).all()


def test_does_not_depend_on_company(csr, random_keys) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(4)
    counts = rng.integers(1, 10**6, 50)
    rows = [sorted(set(rng.integers(0, 50, rng.integers(0, 6)).tolist())) for _ in range(200)]
    keys = random_keys(200)
    together = critical_t(csr(rows), counts, keys, 9)
    alone = [critical_t(csr([row]), counts, keys[[i]], 9)[0] for i, row in enumerate(rows)]
    assert together.tolist() == alone


@settings(max_examples=200)
@given(st.lists(COUNTS, max_size=8), st.floats(0, 2e12))
def test_keep_probability_is_the_complement_of_miss(csr, counts: list[int], t: float) -> None:  # type: ignore[no-untyped-def]
    q = keep_probability(csr([list(range(len(counts)))]), np.array(counts, np.int64), t)
    assert q.tolist() == [1 - miss(counts, t)]


@pytest.mark.parametrize("count", [0, -3])
def test_a_matched_entry_without_count_is_refused(csr, random_keys, count: int) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInputError, match=f"entry 1 is matched but its count is {count}"):
        critical_t(csr([[0, 1]]), np.array([5, count]), random_keys(1), 0)


def test_an_entry_beyond_the_counts_is_refused(csr, random_keys) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInputError, match="entry 7 is matched but there are 2 counts"):
        critical_t(csr([[0, 7]]), np.array([5, 5]), random_keys(1), 0)


@pytest.fixture(scope="module")
def pool(csr):  # type: ignore[no-untyped-def]
    """A long-tailed pool: matches and the counts that they give."""
    rng = np.random.default_rng(5)
    weights = 1 / np.arange(1, 301)
    rows = [
        sorted(set(rng.choice(300, rng.integers(0, 6), p=weights / weights.sum()).tolist()))
        for _ in range(2000)
    ]
    matches = csr(rows)
    return matches, np.bincount(matches.entry_ids, minlength=300)


SEEDS = 200


@pytest.mark.parametrize("t", [3.0, 20.0, 150.0])
def test_mean_and_spread_of_the_size_are_what_the_paper_draws(pool, random_keys, t: float) -> None:  # type: ignore[no-untyped-def]
    matches, counts = pool
    keys = random_keys(len(matches))
    sizes = [int((critical_t(matches, counts, keys, s) <= t).sum()) for s in range(SEEDS)]
    drawn = [int(algorithm_1(matches, counts, t, s).sum()) for s in range(SEEDS)]
    q = keep_probability(matches, counts, t)
    deviation = np.sqrt((q * (1 - q)).sum())
    error, spread_error = deviation / np.sqrt(SEEDS), deviation / np.sqrt(2 * (SEEDS - 1))
    assert abs(np.mean(sizes) - q.sum()) < 4 * error
    assert abs(np.std(sizes, ddof=1) - deviation) < 4 * spread_error
    assert abs(np.mean(sizes) - np.mean(drawn)) < 4 * np.sqrt(2) * error
    assert abs(np.std(sizes) - np.std(drawn)) < 4 * np.sqrt(2) * spread_error


@pytest.mark.parametrize("t", [3.0, 20.0, 150.0])
def test_pairs_of_every_entry_are_kept_as_often_as_the_paper_keeps_them(  # type: ignore[no-untyped-def]
    pool, random_keys, t: float
) -> None:
    matches, counts = pool
    pairs = np.repeat(np.arange(len(matches)), matches.hits_per_text)
    q = keep_probability(matches, counts, t)
    expected = np.bincount(matches.entry_ids, q[pairs], len(counts))
    deviation = np.sqrt(np.bincount(matches.entry_ids, (q * (1 - q))[pairs], len(counts)))
    assert (expected >= np.minimum(counts, t) - 1e-6).all()
    keys, seeds = random_keys(len(matches)), 20
    kept = [critical_t(matches, counts, keys, seed) <= t for seed in range(seeds)]
    for sets in (kept[:1], kept):
        found = np.bincount(matches.entry_ids, sum(sets)[pairs], len(counts)) / len(sets)
        assert (np.abs(found - expected) <= 4 * deviation / np.sqrt(len(sets)) + 1e-6).all()


def test_a_second_round_follows_its_own_law(pool, csr, random_keys) -> None:  # type: ignore[no-untyped-def]
    """Thin, lose at random, count again, thin again: sizes are Σq of what arrived."""
    matches, counts = pool
    keys, rng = random_keys(len(matches)), np.random.default_rng(8)
    surplus = {0: 0.0, 1: 0.0}
    variance = 0.0
    for seed in range(SEEDS):
        kept = critical_t(matches, counts, keys, seed) <= 60.0
        arrived = np.flatnonzero(kept & (rng.random(len(kept)) > 0.2))
        second = matches.take(arrived)
        recount = np.bincount(second.entry_ids, minlength=len(counts))
        q = keep_probability(second, recount, 10.0)
        variance += (q * (1 - q)).sum()
        for round_ in surplus:
            critical = critical_t(second, recount, keys[arrived], seed, round_)
            surplus[round_] += (critical <= 10.0).sum() - q.sum()
    assert abs(surplus[1]) < 4 * np.sqrt(variance)
    assert surplus[0] > 10 * np.sqrt(variance)  # the old coins would keep what they kept before


def algorithm_1(matches, counts, t: float, seed: int):  # type: ignore[no-untyped-def]
    """Alg. 1 of the paper, word for word: which pairs are kept."""
    rng = random.Random(seed)
    entry_count = np.maximum(counts, t)
    entry_prob = (t / entry_count).tolist()
    return np.array(
        [
            any(rng.random() < entry_prob[entry] for entry in matches[i].tolist())
            for i in range(len(matches))
        ]
    )
