"""The published pool's figures (MetaCLIP, ICLR 2024, tables 2 and 3), and what they imply."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

PAIRS, HITS, T = 1_600_000_000, 5_670_000_000, 20_000
ENTRIES, EMPTY, HEAD = 500_000, 114_000, 16_000
HEAD_SHARE = 0.944
TOP_20 = [120, 107, 100, 89, 87, 67, 67, 61, 54, 50, 48, 47, 45, 43, 43, 39, 38, 33, 30, 29]
"""Counts of the most frequent entries, in millions."""

Floats = npt.NDArray[np.float64]


def expected_counts() -> Floats:
    """Return the expected count of each entry: published where it is, else a smooth curve.

    Between the 20th entry and t, and from t to the rarest, log count is a curve of log rank that
    meets both ends and has the published sum.
    """
    top = np.array(TOP_20, np.float64) * 1e6
    head = _curve(20, HEAD, top[-1], T, HITS * HEAD_SHARE - top.sum())
    tail = _steep(HEAD, ENTRIES - EMPTY, T, HITS * (1 - HEAD_SHARE))
    return np.concatenate([top, head, tail, np.zeros(EMPTY)])


def _curve(first: int, last: int, high: float, low: float, total: float) -> Floats:
    """Return counts of ranks first + 1..last from `high` to `low`, bent until they sum to total."""
    place = np.log(np.arange(first + 1, last + 1) / first) / np.log(last / first)
    line = np.log(high) + place * np.log(low / high)

    def counts(bend: float) -> Floats:
        return np.exp(line + bend * place * (1 - place))

    return counts(_solve(lambda bend: counts(bend).sum() - total, -20, 20))


def _steep(first: int, last: int, high: float, total: float) -> Floats:
    """Return counts of ranks first + 1..last that fall from `high` as a power and sum to total."""
    ratio = first / np.arange(first + 1, last + 1)
    power = _solve(lambda power: total - (high * ratio**power).sum(), 0, 20)
    return high * ratio**power


def _solve(rising: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2
