from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.errors import InvalidInputError
from clipcurate.training.mixing import (
    Datasets,
    Mixture,
    Source,
    mixed,
    sources_of,
    weighted,
    whole_weights,
)


@given(
    weights=st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple),
    lane=st.integers(0, 3),
    first=st.integers(0, 40),
    size=st.integers(1, 40),
)
def test_any_cut_of_a_lane_is_a_part_of_the_whole(
    weights: tuple[int, ...], lane: int, first: int, size: int
) -> None:
    mixture = Mixture(weights, seed=1)
    datasets, positions = mixture.split(lane, 0, first + size)
    next_position = Counter[int]()
    for dataset, position in zip(datasets.tolist(), positions.tolist(), strict=True):
        assert position == next_position[dataset]
        next_position[dataset] += 1
    part = mixture.split(lane, first, first + size)
    assert np.array_equal(part, (datasets[first:], positions[first:]))


@given(
    weights=st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple), visit=st.integers(0, 60)
)
def test_visits_before_are_those_of_the_split(weights: tuple[int, ...], visit: int) -> None:
    mixture = Mixture(weights, seed=1)
    datasets, _ = mixture.split(2, 0, visit)
    expected = [datasets.tolist().count(dataset) for dataset in range(len(weights))]
    assert mixture.before(2, visit).tolist() == expected


def test_proportions_are_exact_in_every_period() -> None:
    datasets, _ = Mixture((5, 2, 1), seed=0).split(3, 0, 8_000)
    counts = np.stack([np.bincount(period, minlength=3) for period in datasets.reshape(-1, 8)])
    assert (counts == [5, 2, 1]).all()


def test_lanes_and_periods_are_mixed_differently() -> None:
    mixture = Mixture((30, 30), seed=0)
    a, b = (mixture.split(lane, 0, 120)[0] for lane in (0, 1))
    for one, other in ((a, b), (a[:60], a[60:])):
        assert 0.25 < (one == other).mean() < 0.75


def test_weights_become_the_smallest_integers() -> None:
    assert whole_weights([Fraction("0.7"), Fraction("0.3")]) == (7, 3)
    assert whole_weights([Fraction(4), Fraction(2)]) == (2, 1)
    assert whole_weights([Fraction(9)]) == (1,)


@pytest.mark.parametrize("shares", [[], ["0"], ["1", "-1"], ["1", "0.000001"]])
def test_weights_that_cannot_be_mixed_by_are_refused(shares: list[str]) -> None:
    with pytest.raises(InvalidInputError, match="weight"):
        whole_weights([Fraction(share) for share in shares])


@pytest.mark.parametrize(
    ("urls", "weights", "expected"),
    [
        (["a=3"], "", "a=3"),
        (["a"], "5", "a"),
        (["a=1", "b,c"], "3,1", (Source("a=1", 3), Source("b,c", 1))),
        (["a", "b", "a"], "0.5, 0.25, 0.25", (Source("a", 2), Source("b"), Source("a"))),
    ],
)
def test_datasets_are_listed_with_their_weights(
    urls: list[str], weights: str, expected: Datasets
) -> None:
    assert weighted(urls, weights) == expected


@pytest.mark.parametrize("weights", ["", "1", "1,2,3", "3,one", "3,", "1,1/0", "1,0", "1,-1"])
def test_two_datasets_take_two_positive_weights(weights: str) -> None:
    with pytest.raises(InvalidInputError, match=r"weights .*: give each"):
        weighted(["a", "b"], weights)


def test_equal_proportions_are_equal_datasets() -> None:
    expected = (Source("a", 3), Source("b", 1))
    assert mixed(["a", "b"], [Fraction(6), Fraction(2)]) == expected
    assert sources_of((Source("a", 6), Source("b", 2))) == sources_of(expected) == expected
    assert sources_of("a") == sources_of((Source("a", 7),)) == (Source("a"),)
