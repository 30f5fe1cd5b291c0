import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.balancing import Groups, size_law

KEYS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2)), max_size=12)


def runs(keys: Sequence[object]) -> list[list[int]]:
    numbered = itertools.groupby(enumerate(keys), lambda item: item[1])
    return [[i for i, _ in run] for _, run in numbered]


def groups(keys: list[tuple[int, int]]) -> Groups:
    return Groups.of(*np.array(keys, np.int64).reshape(-1, 2).T)


@given(KEYS)
def test_neighbours_with_equal_keys_are_a_group(keys: list[tuple[int, int]]) -> None:
    expected = runs(keys)
    found = groups(keys)
    assert found.starts.tolist() == [run[0] for run in expected]
    assert found.lengths.tolist() == [len(run) for run in expected]


@given(KEYS, st.data())
def test_least_and_winners(keys: list[tuple[int, int]], data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, 3), min_size=len(keys), max_size=len(keys)))
    found = groups(keys)
    least, winners = [0.0] * len(keys), set()
    for run in runs(keys):
        best = min(run, key=lambda i: values[i])  # min returns the first of equal ones
        winners.add(best)
        for i in run:
            least[i] = values[best]
    assert found.least(np.array(values, np.float64)).tolist() == least
    marks = found.winners(np.array(values, np.uint64))
    assert set(np.flatnonzero(marks).tolist()) == winners


PROBABILITIES = st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=0, max_size=4)


@given(PROBABILITIES)
def test_sizes_by_enumeration(images: list[list[float]]) -> None:
    keys = np.repeat(np.arange(len(images)), [len(image) for image in images])
    of_image, q = Groups.of(keys), np.array([q for image in images for q in image])
    laws = {name: size_law(name, q, of_image) for name in ("pair", "metaclip2", "record")}
    for name, law in laws.items():
        spread = [moments(name, image) for image in images]
        assert law.mean.sum() == pytest.approx(sum(mean for mean, _ in spread))
        assert law.variance.sum() == pytest.approx(sum(v for _, v in spread), abs=1e-9)


def moments(semantics: str, image: list[float]) -> tuple[float, float]:
    """Mean and variance of one image's kept texts, over all outcomes of its coins."""
    if semantics == "metaclip2":
        chosen = sum(image) / len(image)
        return chosen, chosen * (1 - chosen)
    mean = square = 0.0
    for coins in itertools.product([0, 1], repeat=len(image)):
        weight = math.prod(q if coin else 1 - q for q, coin in zip(image, coins, strict=True))
        kept = len(image) * any(coins) if semantics == "record" else sum(coins)
        mean, square = mean + weight * kept, square + weight * kept**2
    return mean, square - mean**2
