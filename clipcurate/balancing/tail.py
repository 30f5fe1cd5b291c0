"""Thresholds and tail shares, by both published conventions.

MetaCLIP describes a threshold by the share of all counts that lies in the tail (6% for t = 20,000).
Its two directions differ, and so do ours: t to share is strict (entries with count < t), share to t
is the count at which the cumulative share comes nearest. Where that lies among the entries without
texts, it is 0, and a threshold of 0 drops everything. The rule says what then:

    positive   the smallest positive count instead: what is rarest stays whole.
    literal    0, as MetaCLIP's `p_to_t` returns it (metaclip/curation/curate.py).
"""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from clipcurate.errors import InvalidInputError

REFERENCE = "en"
"""The language whose tail share Meta CLIP 2 gives to every other one."""

TailRule = Literal["positive", "literal"]
TAIL_RULES: tuple[TailRule, ...] = get_args(TailRule)

_NOTHING = "no entry matches any text: every count is 0"


def tail_share_of(counts: npt.NDArray[np.int64], t: float) -> float:
    """Return Σ c_e over entries with c_e < t, over Σ c_e; 0 if every count is 0."""
    return float(counts[counts < t].sum() / max(int(counts.sum()), 1))


def threshold_for(
    counts: npt.NDArray[np.int64], tail_share: float, rule: TailRule = "positive"
) -> float:
    """Return the count whose cumulative share is nearest to `tail_share` (the lower on a tie).

    Raises:
        InvalidInputError: `tail_share` is not in (0, 1), or all counts are 0.
    """
    if not 0 < tail_share < 1:
        raise InvalidInputError(f"a tail share lies between 0 and 1, not {tail_share}")
    if not counts.any():
        raise InvalidInputError(_NOTHING)
    return threshold_at(counts, tail_share, rule)


def thresholds(
    counts: Mapping[str, npt.NDArray[np.int64]], t: float, rule: TailRule = "positive"
) -> dict[str, float]:
    """Return each language's threshold such that all have the tail share that t has in English.

    English keeps t itself. Without any count of English, t is every language's threshold.
    (Meta CLIP 2, arXiv 2507.22062, and its published curation code.)
    """
    reference = counts.get(REFERENCE)
    if reference is None or not reference.any():
        return dict.fromkeys(counts, t)
    share = tail_share_of(reference, t)
    return {
        name: t if name == REFERENCE else threshold_at(array, share, rule)
        for name, array in counts.items()
    }


def thresholds_for(
    counts: Mapping[str, npt.NDArray[np.int64]], tail_share: float, rule: TailRule = "positive"
) -> dict[str, float]:
    """Return the threshold that gives each language the tail share; 1 where nothing is counted.

    Raises:
        InvalidInputError: `tail_share` is not in (0, 1), or all counts of all languages are 0.
    """
    counted = {
        name: threshold_for(array, tail_share, rule)
        for name, array in counts.items()
        if array.any()
    }
    if not counted:
        raise InvalidInputError(_NOTHING)
    return dict.fromkeys(counts, 1.0) | counted


def threshold_at(
    counts: npt.NDArray[np.int64], tail_share: float, rule: TailRule = "positive"
) -> float:
    """As `threshold_for`, for a share that comes from another language's counts.

    Args:
        counts: of one language; all may be 0, and then any threshold will do: it is 1.
        tail_share: in [0, 1]; 0 gives the smallest (positive) count, 1 the largest.
        rule: what to make of a threshold of 0.
    """
    if not counts.any():
        return 1.0
    ordered = np.sort(counts)
    shares = np.cumsum(ordered) / counts.sum()
    nearest = ordered[np.abs(shares - tail_share).argmin()]
    return float(nearest if nearest > 0 or rule == "literal" else ordered[ordered > 0][0])
