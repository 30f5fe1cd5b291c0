"""Which pairs stay: keep probabilities, coins, critical t, and t <-> size <-> tail share."""

from clipcurate.balancing.coins import choice_draws, coins
from clipcurate.balancing.critical import critical_t, keep_probability, miss_probability
from clipcurate.balancing.cut import Cut, exact_size_cut
from clipcurate.balancing.semantics import SEMANTICS, Groups, Semantics, size_law
from clipcurate.balancing.tail import (
    TAIL_RULES,
    TailRule,
    tail_share_of,
    threshold_for,
    thresholds,
    thresholds_for,
)

__all__ = [
    "SEMANTICS",
    "TAIL_RULES",
    "Cut",
    "Groups",
    "Semantics",
    "TailRule",
    "choice_draws",
    "coins",
    "critical_t",
    "exact_size_cut",
    "keep_probability",
    "miss_probability",
    "size_law",
    "tail_share_of",
    "threshold_for",
    "thresholds",
    "thresholds_for",
]
