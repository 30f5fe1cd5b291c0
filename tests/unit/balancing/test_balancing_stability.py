from collections.abc import Callable
from fractions import Fraction

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.balancing import coins
from clipcurate.balancing.stability import (
    DRIFTS_KEPT,
    StabilityRule,
    Windows,
    announced_pairs,
    drift,
    projected,
)
from clipcurate.errors import InvalidInputError

Row = list[int]
ENTRIES = 6


def array(*values: int) -> npt.NDArray[np.int64]:
    return np.array(values, np.int64)


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=8),
    st.integers(1, 10**11),
    st.integers(0, 10**11),
)
def test_projected_is_the_formula_in_exact_fractions(
    shares: list[float], seen: int, more: int
) -> None:
    announced, raw = seen + more, [int(share * seen) for share in shares]
    found = projected(array(*raw), seen, announced).tolist()
    for count, one in zip(raw, found, strict=True):
        exact = max(Fraction(1), Fraction(count) * announced / seen)
        assert abs(one - exact) <= Fraction(1, 2) + exact / 2**51


def test_all_pairs_seen_are_their_own_projection_but_for_entries_without_any() -> None:
    raw = array(0, 1, 7, 120_000_000, 2**50 + 1)
    assert projected(raw, 3_333_333_333, 3_333_333_333).tolist() == [1, *raw[1:]]
    assert projected(array(0, 1, 3), 2, 5).tolist() == [1, 2, 8]  # 2.5 and 7.5: ties to even


@pytest.mark.parametrize(("seen", "announced"), [(0, 5), (6, 5)])
def test_nothing_is_projected_from_nothing_or_downwards(seen: int, announced: int) -> None:
    with pytest.raises(InvalidInputError, match="announce at least as many"):
        projected(array(1), seen, announced)


rows = st.lists(
    st.lists(st.integers(0, ENTRIES - 1), max_size=ENTRIES, unique=True).map(sorted),
    min_size=1,
    max_size=30,
)
counts = st.lists(st.integers(1, 50), min_size=ENTRIES, max_size=ENTRIES)
thresholds = st.floats(0.01, 60)


def hits_of(pairs: list[Row]) -> npt.NDArray[np.int64]:
    return array(*[sum(e in pair for pair in pairs) for e in range(ENTRIES)])


def miss(pair: Row, count: list[int], t: float) -> float:
    product = 1.0
    for entry in pair:
        product *= 1 - min(1.0, t / count[entry])
    return product


def drift_of(
    pairs: list[Row], before: list[int], after: list[int], t: tuple[float, float] | None
) -> float:
    return drift(
        {"all": array(*before)},
        {"all": array(*after)},
        {"all": hits_of(pairs)},
        len(pairs),
        t and ({"all": t[0]}, {"all": t[1]}),
    )


@given(rows, counts, counts, thresholds, thresholds)
def test_no_larger_share_changes_its_fate_in_the_mean_over_coins(
    pairs: list[Row], before: list[int], after: list[int], first: float, second: float
) -> None:
    changes = [abs(miss(pair, before, first) - miss(pair, after, second)) for pair in pairs]
    bound = drift_of(pairs, before, after, (first, second))
    assert np.mean(changes) <= bound + 1e-12


@given(rows, counts, counts, thresholds)
def test_the_bound_for_any_t_is_the_least_for_each_entry(
    pairs: list[Row], before: list[int], after: list[int], t: float
) -> None:
    largest = sum(
        max(abs(min(1.0, t / b) - min(1.0, t / a)) for t in (min(a, b), max(a, b), (a + b) / 2))
        * sum(entry in pair for pair in pairs)
        for entry, (b, a) in enumerate(zip(before, after, strict=True))
    )
    found = drift_of(pairs, before, after, None)
    assert found == pytest.approx(largest / len(pairs))
    assert drift_of(pairs, before, after, (t, t)) <= found + 1e-12


@pytest.mark.parametrize("keyed", [True, False])
def test_fates_of_a_counted_pool_change_no_more_than_drift_says(
    keyed: bool, random_keys: Callable[[int], npt.NDArray[np.uint64]]
) -> None:
    """Count half of a pool, then three quarters; decide all pairs with the same coins twice."""
    rng = np.random.default_rng(5)
    weights = 1 / np.arange(1, 400) ** 1.1
    pool = [
        sorted(set(rng.choice(len(weights), 3, p=weights / weights.sum()).tolist()))
        for _ in range(20_000)
    ]
    raw = [np.bincount(np.concatenate(pool[:n]), minlength=400) for n in (10_000, 15_000)]
    found = [projected(c, n, 20_000) for c, n in zip(raw, (10_000, 15_000), strict=True)]
    seen = pool[:15_000]
    t = 30.0
    p = [np.minimum(1, t / c) for c in found]
    if keyed:
        u = coins(random_keys(len(seen)), 0)
        fates = [np.array([np.prod(1 - q[pair]) for pair in seen]) < 1 - u for q in p]
    else:  # Alg. 1: a coin per entry, the same for both
        tosses = [rng.random(len(pair)) for pair in seen]
        fates = [
            np.array([(toss < q[pair]).any() for pair, toss in zip(seen, tosses, strict=True)])
            for q in p
        ]
    changed = float((fates[0] != fates[1]).mean())
    same = {"all": t}
    bound = drift({"all": found[0]}, {"all": found[1]}, {"all": raw[1]}, 15_000, (same, same))
    assert 0 < changed <= bound + 4 * np.sqrt(bound / len(seen))
    assert bound < 0.1


def test_languages_add_up_over_the_same_pairs() -> None:
    before = {"en": array(10, 10), "de": array(4)}
    after = {"en": array(20, 10), "de": array(2)}
    hits = {"en": array(5, 9), "de": array(2)}
    t = {"en": 5.0, "de": 2.0}
    found = drift(before, after, hits, 16, (t, t))
    assert found == pytest.approx((5 * (5 / 10 - 5 / 20) + 2 * (2 / 2 - 2 / 4)) / 16)


@pytest.mark.parametrize(
    "wrong", [{"epsilon": 0.0}, {"epsilon": float("nan")}, {"windows": 0}, {"share": 0.0}]
)
def test_rules_that_cannot_be_meant(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidInputError):
        StabilityRule(**wrong)  # type: ignore[arg-type]


def test_windows_are_a_share_of_the_tasks_but_one_at_least() -> None:
    assert [StabilityRule(share=0.01).window_tasks(n) for n in (1, 99, 250, 10_000)] == [
        1, 1, 2, 100,
    ]  # fmt: skip


@given(st.lists(st.floats(0, 1), max_size=40))
def test_converged_means_below_epsilon_for_all_of_the_last_windows(values: list[float]) -> None:
    rule = StabilityRule(epsilon=0.5, windows=3)
    windows = Windows()
    for value in values:
        windows = windows.ended(value, rule)
    last = values[-3:]
    assert windows.converged(rule) == (len(last) == 3 and max(last) < 0.5)
    assert list(windows.drifts) == values[-DRIFTS_KEPT:]


def test_the_size_of_a_pool_is_told_by_the_tasks_that_are_counted() -> None:
    assert announced_pairs(300, 100, 1000) == 3000, "three texts per row"
    assert announced_pairs(100, 100, 100) == 100
    assert announced_pairs(5, 2, 3) == 8, "7.5"
    assert announced_pairs(5, 0, 100) == 5, "a plan that knows nothing"
    assert announced_pairs(300, 100, 1000, 5000) == 5000, "as announced"
    assert announced_pairs(300, 100, 1000, 200) == 300, "larger than announced"
