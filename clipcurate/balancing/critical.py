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
from numba import njit

from clipcurate.balancing.coins import coins
from clipcurate.errors import InvalidInputError
from clipcurate.matching import Matches

_NEWTON_STEPS = 12


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
    _critical(matches.row_offsets, matches.entry_ids, counts, u, _room(matches), out)
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
    _misses(matches.row_offsets, matches.entry_ids, counts, t, _room(matches), out)
    return out


def _require_counts(matches: Matches, counts: npt.NDArray[np.int64]) -> None:
    highest = int(matches.entry_ids.max(initial=0))
    if len(matches.entry_ids) and highest >= len(counts):
        raise InvalidInputError(f"entry {highest} is matched but there are {len(counts)} counts")
    entry = _first_uncounted(matches.entry_ids, counts)
    if entry >= 0:
        raise InvalidInputError(f"entry {entry} is matched but its count is {counts[entry]}")


def _room(matches: Matches) -> npt.NDArray[np.float64]:
    """Return room for the counts of one pair's hits."""
    return np.empty(matches.hits_per_text.max(initial=0), np.float64)


@njit(nogil=True, cache=True)
def _first_uncounted(entry_ids, counts):  # type: ignore[no-untyped-def] # pragma: no cover
    for entry in entry_ids:
        if counts[np.uint64(entry)] < 1:
            return np.int64(entry)
    return np.int64(-1)


@njit(nogil=True, cache=True, inline="always")
def _counts_of(row, offsets, entry_ids, counts, room):  # type: ignore[no-untyped-def] # pragma: no cover
    """Return the counts of a pair's hits, in `room`."""
    first, size = offsets[row], offsets[row + 1] - offsets[row]
    for place in range(size):
        room[place] = counts[np.uint64(entry_ids[first + place])]
    return room[:size]


@njit(nogil=True, cache=True)
def _miss(counts, t):  # type: ignore[no-untyped-def] # pragma: no cover - compiled
    miss = 1.0
    for c in counts:
        share = t / c
        if share >= 1.0:
            return 0.0
        miss *= 1.0 - share
    return miss


@njit(nogil=True, cache=True, error_model="numpy")
def _newton(counts, keep):  # type: ignore[no-untyped-def] # pragma: no cover - compiled
    """Approach the root of miss(t) = keep from below: miss is convex and falls.

    Rounding can put t on the lowest count already; then the step is not a number, and t stays.
    """
    inverse, low = 0.0, counts[0]
    for c in counts:
        inverse += 1.0 / c
        low = min(low, c)
    t = (1.0 - keep) / inverse
    for _ in range(_NEWTON_STEPS):
        miss, slope = 1.0, 0.0
        for c in counts:
            miss *= 1.0 - t / c
            slope += 1.0 / (c - t)
        step = (miss - keep) / (miss * slope)
        if not step > t * 1e-16 or t + step >= low:
            break
        t += step
    return t


@njit(nogil=True, cache=True)
def _critical(offsets, entry_ids, all_counts, u, room, out):  # type: ignore[no-untyped-def] # pragma: no cover
    as_float = np.empty(1, np.float64)
    as_bits = as_float.view(np.int64)  # positive floats are ordered as their bits
    for row in range(out.size):
        counts = _counts_of(row, offsets, entry_ids, all_counts, room)
        if counts.size == 0:
            out[row] = np.inf
            continue
        keep = 1.0 - u[row]
        as_float[0] = _newton(counts, keep)
        low = high = as_bits[0]
        step = 1
        if _miss(counts, as_float[0]) < keep:
            while low > 0 and _miss(counts, as_float[0]) < keep:
                high = low
                low = max(low - step, 0)
                step *= 2
                as_bits[0] = low
        else:
            while not _miss(counts, as_float[0]) < keep:
                low = high
                high += step
                step *= 2
                as_bits[0] = high
        while high - low > 1:
            middle = low + (high - low) // 2
            as_bits[0] = middle
            if _miss(counts, as_float[0]) < keep:
                high = middle
            else:
                low = middle
        as_bits[0] = high
        out[row] = as_float[0]


@njit(nogil=True, cache=True)
def _misses(offsets, entry_ids, counts, t, room, out):  # type: ignore[no-untyped-def] # pragma: no cover
    for row in range(out.size):
        out[row] = _miss(_counts_of(row, offsets, entry_ids, counts, room), t)
