"""What a threshold yields, before anything is emitted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clipcurate.balancing.semantics import SizeLaw
from clipcurate.balancing.tail import tail_share_of


@dataclass(frozen=True)
class SizeEstimate:
    """What balancing at t does.

    Attributes:
        t: the threshold.
        tail_share: share of all counts in entries with count < t.
        expected: mean number of kept pairs over seeds; Σq where every pair has its own coin.
        deviation: its standard deviation; √Σq(1-q) then.
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


def estimate(counts: npt.NDArray[np.int64], laws: Iterable[SizeLaw], t: float) -> SizeEstimate:
    """Add up what the parts of a pool yield at t (`size_law`), and describe the counts at t."""
    expected = variance = 0.0
    for law in laws:
        expected += float(law.mean.sum())
        variance += float(law.variance.sum())
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
