"""What a threshold yields, before anything is emitted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clipcurate.balancing.critical import keep_probability
from clipcurate.balancing.tail import tail_share_of
from clipcurate.matching import Matches


@dataclass(frozen=True)
class SizeEstimate:
    """What balancing at t does.

    Attributes:
        t: the threshold.
        tail_share: share of all counts in entries with count < t.
        expected: mean number of kept pairs over seeds, Σq.
        deviation: its standard deviation, √Σq(1-q).
        head_entries, tail_entries: entries with count > t; with 0 < count <= t.
        empty_entries: entries without any count.
        head_count: Σ counts of the head.
        slots: Σ min(count, t), the mean number of successful coins.
    """

    t: float
    tail_share: float
    expected: float
    deviation: float
    head_entries: int
    tail_entries: int
    empty_entries: int
    head_count: int
    slots: float


def estimate(counts: npt.NDArray[np.int64], matches: Iterable[Matches], t: float) -> SizeEstimate:
    """Go through all matches once and add up keep probabilities at t."""
    expected = variance = 0.0
    for part in matches:
        q = keep_probability(part, counts, t)
        expected += float(q.sum())
        variance += float((q * (1 - q)).sum())
    head = counts > t
    return SizeEstimate(
        t=t,
        tail_share=tail_share_of(counts, t),
        expected=expected,
        deviation=float(np.sqrt(variance)),
        head_entries=int(head.sum()),
        tail_entries=int(((counts > 0) & ~head).sum()),
        empty_entries=int((counts == 0).sum()),
        head_count=int(counts[head].sum()),
        slots=float(np.minimum(counts, t).sum()),
    )


def top_entries(
    counts: npt.NDArray[np.int64], entries: Sequence[str], number: int
) -> list[tuple[str, int]]:
    """Return the entries with the highest counts, ties by entry id."""
    order = np.lexsort((np.arange(len(counts)), -counts))[:number]
    return [(entries[int(i)], int(counts[i])) for i in order]
