"""Which pairs stay: keep probabilities, coins, critical t, and t <-> size <-> tail share."""

from clipcurate.balancing.coins import coins
from clipcurate.balancing.critical import critical_t, keep_probability
from clipcurate.balancing.cut import Cut, exact_size_cut
from clipcurate.balancing.tail import tail_share_of, threshold_for, thresholds, thresholds_for

__all__ = [
    "Cut",
    "coins",
    "critical_t",
    "exact_size_cut",
    "keep_probability",
    "tail_share_of",
    "threshold_for",
    "thresholds",
    "thresholds_for",
]
