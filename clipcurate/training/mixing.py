"""Weighted mixing: which dataset serves which visit of a lane, exactly and without a draw.

Needs no torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from clipcurate.errors import InvalidInputError
from clipcurate.training.order import I64, MIXTURE, fold, shuffled

LARGEST_PERIOD = 1 << 16


@dataclass(frozen=True)
class Source:
    """One of several datasets: its folder, and its share of the pairs beside the others'."""

    url: str
    weight: int = 1


Datasets = str | tuple[Source, ...]
"""What a training reads: the folder of one dataset, or several to mix, in an order that counts."""


def weighted(urls: Sequence[str], weights: str) -> Datasets:
    """Return datasets with the weights that a text like "3,1" or "0.7,0.3" lists for them.

    Raises:
        InvalidInputError: there is not one number for each, or they are none to mix by.
    """
    if len(urls) == 1 and not weights:
        return urls[0]
    try:
        shares = list(map(Fraction, weights.split(",")))
    except (ValueError, ZeroDivisionError):
        shares = []
    if len(shares) != len(urls):
        raise InvalidInputError(
            f"weights {weights!r} for {len(urls)} datasets: give each one a positive number, in "
            "the order of the datasets, such as 3,1 or 0.7,0.3 for two"
        )
    return mixed(urls, shares)


def mixed(urls: Sequence[str], shares: Sequence[Fraction]) -> Datasets:
    """Return datasets with the smallest weights in the proportion of `shares`; one as its folder.

    Raises:
        InvalidInputError: see `whole_weights`.
    """
    weights = whole_weights(shares)
    return urls[0] if len(urls) == 1 else tuple(map(Source, urls, weights))


def sources_of(datasets: Datasets) -> tuple[Source, ...]:
    """Return the datasets one by one, with the smallest weights in their proportion.

    Raises:
        InvalidInputError: see `whole_weights`.
    """
    sources = (Source(datasets),) if isinstance(datasets, str) else datasets
    weights = whole_weights([Fraction(source.weight) for source in sources])
    return tuple(map(Source, [source.url for source in sources], weights))


def whole_weights(shares: Sequence[Fraction]) -> tuple[int, ...]:
    """Return the smallest integers in the proportion of `shares`.

    Raises:
        InvalidInputError: a share is not positive, or the integers are too large to mix by.
    """
    if not shares or min(shares) <= 0:
        raise InvalidInputError(f"weights {_shown(shares)}: give each dataset a positive weight")
    scale = math.lcm(*(share.denominator for share in shares))
    weights = [int(share * scale) for share in shares]
    divisor = math.gcd(*weights)
    if sum(weights) // divisor > LARGEST_PERIOD:
        raise InvalidInputError(
            f"weights {_shown(shares)}: take rounder ones, so that as integers in the same "
            f"proportion they add up to at most {LARGEST_PERIOD}"
        )
    return tuple(weight // divisor for weight in weights)


def _shown(shares: Sequence[Fraction]) -> str:
    return ", ".join(map(str, shares)) or "(none)"


class Mixture:
    """Shares the visits of each lane out by weight, in periods of sum(weights) visits.

    In every period exactly weights[d] visits go to dataset d, in an order keyed by (seed, lane,
    period).
    """

    def __init__(self, weights: tuple[int, ...], seed: int) -> None:
        self._weights = np.array(weights, np.int64)
        self._slots = np.repeat(np.arange(len(weights)), self._weights)
        self._seed = seed

    def split(self, lane: int, first: int, last: int) -> tuple[I64, I64]:
        """Return the dataset and the position in its lane of the visits first … last-1 of a lane.

        Both have shape (last - first,). A dataset's positions are consecutive and begin at 0.
        """
        if len(self._weights) == 1:
            return np.zeros(last - first, np.int64), np.arange(first, last)
        period = len(self._slots)
        datasets, positions = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for number in range(first // period, -(-last // period)):
            drawn = self._slots[shuffled(period, fold(self._seed, MIXTURE, lane, number))]
            part = slice(max(first - number * period, 0), min(last - number * period, period))
            datasets.append(drawn[part])
            positions.append((number * self._weights[drawn] + _ranks(drawn))[part])
        return np.concatenate(datasets), np.concatenate(positions)

    def before(self, lane: int, visit: int) -> I64:
        """Return how many of the visits before number `visit` of a lane go to each dataset."""
        whole = visit // len(self._slots)
        drawn, _ = self.split(lane, whole * len(self._slots), visit)
        return whole * self._weights + np.bincount(drawn, minlength=len(self._weights))


def _ranks(values: I64) -> I64:
    """Return how many equal values stand before each."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ranks = np.empty(len(values), np.int64)
    ranks[order] = np.arange(len(values)) - np.repeat(starts, np.diff(np.r_[starts, len(values)]))
    return ranks
