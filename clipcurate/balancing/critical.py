"""Critical t: the smallest threshold that keeps a pair.

A pair with matched entries e, ascending by id, and counts c_e is kept at threshold t iff

    miss(t) < 1 - u        with  miss(t) = Π (1 - min(1, t / c_e))  in float64, left to right

(Alg. 1 of the MetaCLIP paper draws a coin per entry and keeps on the first success: the same law,
since the probability that all fail is miss(t).) Every operation in miss is monotone under rounding,
so miss falls with t and a smallest t exists; it is found to the last bit. The kernel uses IEEE add,
multiply, divide and compare only, so two machines agree.
"""

import numpy as np
import numpy.typing as npt

from clipcurate.balancing.coins import coins
from clipcurate.balancing.kernels import critical, first_uncounted, misses
from clipcurate.errors import InvalidInputError
from clipcurate.matching import Matches


def critical_t(
    matches: Matches,
    counts: npt.NDArray[np.int64],
    coin_keys: npt.NDArray[np.uint64],
    seed: int,
    round: int = 0,  # noqa: A002 - the method's own word
    epoch: int = 0,
) -> npt.NDArray[np.float64]:
    """Return the smallest float64 t that keeps each pair.

    Args:
        matches: hits of n pairs.
        counts: count of each entry, shape (entries,).
        coin_keys: uint64, shape (n, 2), high half first.
        seed: seed of the coins.
        round: how often the pool has been balanced before.
        epoch: 0 for a dataset.

    Returns:
        float64, shape (n,); inf for a pair without hits. A pair is kept at t iff its value <= t.

    Raises:
        InvalidInputError: a matched entry has no count, or seed, round, epoch are out of range.
    """
    _require_counts(matches, counts)
    u = coins(coin_keys, seed, round, epoch)
    out = np.empty(len(matches), np.float64)
    critical(matches.row_offsets, matches.entry_ids, counts, u, _room(matches), out)
    return out


def keep_probability(
    matches: Matches, counts: npt.NDArray[np.int64], t: float
) -> npt.NDArray[np.float64]:
    """Return q(t) = 1 - Π (1 - min(1, t / c_e)) of each pair; 0 for a pair without hits."""
    return 1.0 - miss_probability(matches, counts, t)


def miss_probability(
    matches: Matches, counts: npt.NDArray[np.int64], t: float
) -> npt.NDArray[np.float64]:
    """Return miss(t) = Π (1 - min(1, t / c_e)) of each pair; 1 for a pair without hits.

    A pair with the coin u is kept at t iff this is < 1 - u: the same decision as critical t <= t.
    """
    out = np.empty(len(matches), np.float64)
    _require_counts(matches, counts)
    misses(matches.row_offsets, matches.entry_ids, counts, t, _room(matches), out)
    return out


def _require_counts(matches: Matches, counts: npt.NDArray[np.int64]) -> None:
    highest = int(matches.entry_ids.max(initial=0))
    if len(matches.entry_ids) and highest >= len(counts):
        raise InvalidInputError(f"entry {highest} is matched but there are {len(counts)} counts")
    entry = first_uncounted(matches.entry_ids, counts)
    if entry >= 0:
        raise InvalidInputError(f"entry {entry} is matched but its count is {counts[entry]}")


def _room(matches: Matches) -> npt.NDArray[np.float64]:
    """Return room for the counts of one pair's hits."""
    return np.empty(matches.hits_per_text.max(initial=0), np.float64)
