"""Stability: whether counts of a part of a pool already say what those of all of it will.

While a pool is being counted, its counts are *projected* to its announced size. *Drift* says how
much the fates of pairs depend on which of two projections one acts on.

With counts c and thresholds t, p_e = min(1, t / c_e), a pair is kept with probability
1 - Π (1 - p_e) over its entries: it is kept if any of its entries' coins succeeds. Toss the same
coins for two snapshots: the coin of entry e falls differently with probability |Δp_e|, and the fate
of a pair can differ only if one of its coins does. So (union bound) it differs with probability at
most Σ |Δp_e| over its entries, and among the pairs seen, of which a share f_e match e, the expected
share whose fates differ is at most

    drift = Σ_e f_e · |Δp_e|

The keyed coin, one uniform number per pair, does not do worse: fates differ with probability
|Π (1 - p_e) - Π (1 - p'_e)|, which is at most the same sum. The expectation is over coins: with one
seed the share scatters around it as a sum of independent tosses does. Semantics `metaclip2` tosses
for some of the pairs only. With `record` the bound is on the number of records whose fates differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clipcurate.errors import InvalidInputError

Counts = Mapping[str, npt.NDArray[np.int64]]
"""Per metadata language, shape (entries,)."""
DRIFTS_KEPT = 10


def projected(raw: npt.NDArray[np.int64], seen: int, announced: int) -> npt.NDArray[np.int64]:
    """Return counts of `seen` pairs as those of the announced pool: max(1, raw · announced / seen).

    In float64, multiplied first, rounded to the nearest integer (ties to even), so two machines
    agree. Where all are seen, counts below 2**51 stay as they are, but for 0: an entry that no pair
    has matched so far gets 1, for a pair may come that matches it.

    Raises:
        InvalidInputError: not 1 <= seen <= announced.
    """
    if not 1 <= seen <= announced:
        raise InvalidInputError(
            f"counts of {seen:,} pairs cannot be projected to {announced:,}: announce at least as "
            "many pairs as the pool has"
        )
    scaled = np.rint(raw.astype(np.float64) * float(announced) / float(seen))
    return np.maximum(1, scaled.astype(np.int64))


def announced_pairs(seen: int, counted_rows: int, planned_rows: int, announced: int = 0) -> int:
    """Return how many pairs a pool has, if its tasks are like those that are counted.

    What is announced counts instead, but no less than was seen. A plan knows rows, or estimates
    them by file size, and not how many texts a row has. In the ratio, what is wrong in all tasks
    alike cancels out.

    Args:
        seen: pairs of the counted tasks.
        counted_rows: their rows by the plan.
        planned_rows: rows of all tasks by the plan.
        announced: pairs of the whole pool, as somebody says; 0 if nobody does.
    """
    if announced or not counted_rows:
        return max(seen, announced)
    return max(seen, (2 * seen * planned_rows + counted_rows) // (2 * counted_rows))


def drift(
    before: Counts,
    after: Counts,
    hits: Counts,
    seen: int,
    thresholds: tuple[Mapping[str, float], Mapping[str, float]] | None,
) -> float:
    """Return Σ f_e · |Δp_e|: at most so large a share of the pairs seen changes its fate.

    Args:
        before: projected counts, each at least 1.
        after: likewise.
        hits: pairs seen that match each entry, so f_e = hits / seen.
        seen: pairs seen.
        thresholds: t per language, before and after; None for the largest that
            f_e · |Δp_e| gets at any t, which is at t = min(c_e, c'_e).
    """
    total = 0.0
    for name, mine in hits.items():
        if thresholds is None:
            low, high = np.minimum(before[name], after[name]), np.maximum(before[name], after[name])
            change = 1.0 - low / high
        else:
            first, second = (t[name] for t in thresholds)
            change = np.abs(_shares(before[name], first) - _shares(after[name], second))
        total += float((mine * change).sum())
    return total / seen


def _shares(counts: npt.NDArray[np.int64], t: float) -> npt.NDArray[np.float64]:
    return np.minimum(1.0, t / counts)


@dataclass(frozen=True)
class StabilityRule:
    """When counts are converged: drift was below epsilon for so many windows in a row.

    Attributes:
        epsilon: largest drift from one window to the next that counts as none.
        windows: how many in a row.
        share: of all tasks, how many make a window.
    """

    epsilon: float = 0.01
    windows: int = 3
    share: float = 0.01

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not 0 < self.epsilon < float("inf"):
            raise InvalidInputError(f"epsilon must be positive, not {self.epsilon}")
        if self.windows < 1:
            raise InvalidInputError(f"at least 1 window must be below epsilon, not {self.windows}")
        if not 0 < self.share <= 1:
            raise InvalidInputError(f"a window is a share of the pool in (0, 1], not {self.share}")

    def window_tasks(self, tasks: int) -> int:
        """Return how many of a run's tasks make a window; at least 1."""
        return max(1, round(self.share * tasks))


@dataclass(frozen=True)
class Windows:
    """The windows that have ended so far.

    Attributes:
        drifts: of the last ones (at most DRIFTS_KEPT), oldest first.
        below: how many in a row were below epsilon, up to the last.
    """

    drifts: tuple[float, ...] = ()
    below: int = 0

    def ended(self, value: float, rule: StabilityRule) -> "Windows":
        """Return the windows with another one."""
        below = self.below + 1 if value < rule.epsilon else 0
        return Windows((*self.drifts, value)[-DRIFTS_KEPT:], below)

    def converged(self, rule: StabilityRule) -> bool:
        """Say whether so many were below epsilon in a row as the rule asks for."""
        return self.below >= rule.windows
