"""Critical t and miss(t), pair by pair. `clipcurate.balancing.critical` has the law."""

import numpy as np

from clipcurate.kernels.compiling import dividing, inlined, kernel

_NEWTON_STEPS = 12


@kernel
def first_uncounted(entry_ids, counts):
    """Return the first matched entry whose count is not positive, or -1."""
    for entry in entry_ids:
        if counts[np.uint64(entry)] < 1:
            return np.int64(entry)
    return np.int64(-1)


@inlined
def _counts_of(row, offsets, entry_ids, counts, room):
    """Return the counts of a pair's hits, in `room`."""
    first, size = offsets[row], offsets[row + 1] - offsets[row]
    for place in range(size):
        room[place] = counts[np.uint64(entry_ids[first + place])]
    return room[:size]


@kernel
def _miss(counts, t):
    """Return the chance that a pair of these counts is not kept at t."""
    miss = 1.0
    for c in counts:
        share = t / c
        if share >= 1.0:
            return 0.0
        miss *= 1.0 - share
    return miss


@dividing
def _newton(counts, keep):
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


@kernel
def critical(offsets, entry_ids, all_counts, u, room, out):
    """Fill out[i] with the critical t of pair i; `room` is for the counts of one pair."""
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


@kernel
def misses(offsets, entry_ids, counts, t, room, out):
    """Fill out[i] with miss(t) of pair i."""
    for row in range(out.size):
        out[row] = _miss(_counts_of(row, offsets, entry_ids, counts, room), t)
