"""Thresholds and tail shares, by both published conventions.

MetaCLIP describes a threshold by the share of all counts that lies in the tail (6% for t = 20,000).
Its two directions differ, and so do ours: t to share is strict (entries with count < t), share to t
is the count at which the cumulative share comes nearest.
"""

import numpy as np
import numpy.typing as npt

from clipcurate.errors import InvalidInputError


def tail_share_of(counts: npt.NDArray[np.int64], t: float) -> float:
    """Return Σ c_e over entries with c_e < t, over Σ c_e; 0 if every count is 0."""
    return float(counts[counts < t].sum() / max(int(counts.sum()), 1))


def threshold_for(counts: npt.NDArray[np.int64], tail_share: float) -> float:
    """Return the count whose cumulative share is nearest to `tail_share` (the lower on a tie).

    Where that is 0 (more is in the tail than asked for already at the rarest entry), the smallest
    positive count: a threshold of 0 would drop everything.

    Raises:
        InvalidInputError: `tail_share` is not in (0, 1), or all counts are 0.
    """
    if not 0 < tail_share < 1:
        raise InvalidInputError(f"a tail share lies between 0 and 1, not {tail_share}")
    if not counts.any():
        raise InvalidInputError("no entry matches any text: every count is 0")
    ordered = np.sort(counts)
    shares = np.cumsum(ordered) / counts.sum()
    nearest = ordered[np.abs(shares - tail_share).argmin()]
    return float(nearest if nearest > 0 else ordered[ordered > 0][0])
