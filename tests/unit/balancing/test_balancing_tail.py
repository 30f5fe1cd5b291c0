import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.balancing import (
    TAIL_RULES,
    TailRule,
    tail_share_of,
    threshold_for,
    thresholds,
    thresholds_for,
)
from clipcurate.errors import InvalidInputError

COUNTS = st.lists(st.integers(0, 1000), min_size=1, max_size=12).filter(any)


def test_the_two_directions_are_not_inverse() -> None:
    """MetaCLIP's own example of it: cumulative shares .05, .2, .5, 1; .15 is nearest to .2."""
    counts = np.array([10, 3, 1, 6])
    assert threshold_for(counts, 0.15) == 3
    assert tail_share_of(counts, 3) == 0.05


def test_the_tail_is_strict() -> None:
    counts = np.array([1, 3, 3, 13])
    assert tail_share_of(counts, 3) == 1 / 20
    assert tail_share_of(counts, 3.5) == 7 / 20
    assert tail_share_of(counts, 1) == 0
    assert tail_share_of(counts, 14) == 1


def test_zero_is_never_a_threshold() -> None:
    """Where no text matches most entries, the reference's nearest share is theirs, and t = 0."""
    counts = np.array([0, 0, 0, 50, 1000])
    assert threshold_for(counts, 0.01) == 50
    assert threshold_for(counts, 0.06) == 50


def test_a_tie_goes_to_the_lower_count() -> None:
    assert threshold_for(np.array([2, 2, 4]), 0.375) == 2  # shares .25, .5, 1
    assert threshold_for(np.array([2, 6]), 0.625) == 2  # .25 and 1 are equally near


@given(COUNTS, st.floats(0, 2000))
def test_share_by_brute_force(counts: list[int], t: float) -> None:
    expected = sum(c for c in counts if c < t) / sum(counts)
    assert tail_share_of(np.array(counts), t) == expected


def p_to_t(entry_counts: np.ndarray, p: float) -> int:
    """MetaCLIP's, line by line."""
    counts = np.sort(entry_counts)
    portion = np.cumsum(counts) / counts.sum()
    return int(counts[(np.abs(portion - p)).argmin()])


def test_the_literal_rule_gives_zero_where_the_reference_does() -> None:
    counts = np.array([0, 0, 0, 50, 1000])
    assert p_to_t(counts, 0.01) == threshold_for(counts, 0.01, "literal") == 0
    assert threshold_for(counts, 0.06, "literal") == 50
    both = {"en": counts[3:], "th": counts}
    assert thresholds(both, 40.0, "literal") == {"en": 40.0, "th": 0.0}  # a share of 0
    assert thresholds(both, 40.0) == {"en": 40.0, "th": 50.0}
    assert thresholds_for(both, 0.01, "literal") == {"en": 50.0, "th": 0.0}


@given(COUNTS, st.floats(0.001, 0.999))
def test_the_literal_rule_is_the_reference(counts: list[int], share: float) -> None:
    array = np.array(counts)
    expected = p_to_t(array, share)
    assert threshold_for(array, share, "literal") == expected
    assert threshold_for(array, share) == (expected or min(filter(None, counts)))


@given(COUNTS, st.floats(0.001, 0.999))
def test_threshold_by_brute_force(counts: list[int], share: float) -> None:
    """As MetaCLIP's p_to_t, but that a threshold of 0 becomes the smallest count."""
    ordered = sorted(counts)
    distances = [abs(sum(ordered[: i + 1]) / sum(counts) - share) for i in range(len(ordered))]
    nearest = ordered[distances.index(min(distances))]
    assert threshold_for(np.array(counts), share) == (nearest or min(filter(None, counts)))


@given(COUNTS, st.floats(0.001, 0.999))
def test_round_trip_is_off_by_one_entrys_ties_at_most(counts: list[int], share: float) -> None:
    """What the nearest convention promises: t's strict share and inclusive share enclose p."""
    array = np.array(counts)
    t = threshold_for(array, share)
    largest = max(counts) / sum(counts)
    below, up_to = tail_share_of(array, t), tail_share_of(array, t + 1)
    assert below - largest <= share <= up_to + largest


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_impossible_shares_are_refused(share: float) -> None:
    with pytest.raises(InvalidInputError, match="between 0 and 1"):
        threshold_for(np.array([1]), share)


def test_without_any_count() -> None:
    nothing = np.zeros(3, np.int64)
    assert tail_share_of(nothing, 5) == 0
    with pytest.raises(InvalidInputError, match="every count is 0"):
        threshold_for(nothing, 0.06)


ENGLISH = np.array([1, 3, 6, 10])  # t = 4: .2 of all counts lie below
LANGUAGES = {"en": ENGLISH, "zh": np.array([5, 5]), "th": np.array([100, 250, 650])}
NONE = np.zeros(3, np.int64)


def test_english_keeps_t_and_gives_its_share_to_the_others() -> None:
    assert thresholds(LANGUAGES, 4.5) == {"en": 4.5, "zh": 5.0, "th": 100.0}
    assert threshold_for(LANGUAGES["th"], tail_share_of(ENGLISH, 4.5)) == 100.0


@given(
    st.lists(COUNTS, min_size=2, max_size=3),
    st.tuples(*[st.floats(0.001, 2000)] * 2),
    st.sampled_from(TAIL_RULES),
)
def test_a_smaller_t_is_smaller_in_every_language(
    lists: list[list[int]], t: tuple[float, float], rule: TailRule
) -> None:
    """So that datasets are nested in t, whatever their languages."""
    counts = {
        name: np.array(values) for name, values in zip(("en", "th", "zh"), lists, strict=False)
    }
    small, large = (thresholds(counts, value, rule) for value in sorted(t))
    assert all(small[name] <= large[name] for name in counts)


def test_without_english_counts_t_is_everyones() -> None:
    others = {"zh": LANGUAGES["zh"], "th": LANGUAGES["th"]}
    assert thresholds(others, 4.5) == {"zh": 4.5, "th": 4.5}
    assert thresholds({"en": NONE} | others, 4.5) == {"en": 4.5, "zh": 4.5, "th": 4.5}


def test_shares_of_none_and_all_and_languages_without_counts() -> None:
    assert thresholds(LANGUAGES | {"fr": NONE}, 1.0) == {
        "en": 1.0,
        "zh": 5.0,
        "th": 100.0,
        "fr": 1.0,
    }
    assert thresholds(LANGUAGES, 99.0) == {"en": 99.0, "zh": 5.0, "th": 650.0}


def test_a_share_gives_each_language_its_own_threshold() -> None:
    found = thresholds_for(LANGUAGES | {"fr": NONE}, 0.2)
    assert found == {n: threshold_for(c, 0.2) for n, c in LANGUAGES.items()} | {"fr": 1.0}
    with pytest.raises(InvalidInputError, match="every count is 0"):
        thresholds_for({"en": NONE, "fr": NONE}, 0.2)
    with pytest.raises(InvalidInputError, match="between 0 and 1"):
        thresholds_for(LANGUAGES, 1.0)
