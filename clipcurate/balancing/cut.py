"""The cut: which pairs a dataset keeps, given their critical t.

Pairs are ordered by (critical t, uid, shard, row, text index). A threshold keeps all pairs whose
critical t is at most t; an exact size keeps the first N in this order.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from clipcurate.errors import InvalidInputError

Ranks = npt.NDArray[np.void]

RANK = np.dtype([("uid", ">u8", (2,)), ("shard", ">u4"), ("row", ">u8"), ("text_index", ">u4")])
"""What breaks ties of critical t. Big-endian, so the order of values is the order of bytes."""

BIN_SHIFT = np.uint64(48)
"""Histogram bins are the leading 16 bits of a float64: its exponent and 4 bits of its mantissa."""


@dataclass(frozen=True)
class Cut:
    """Where a dataset ends.

    Attributes:
        t: largest critical t that is kept.
        last: rank of the last pair kept among those whose critical t equals t; None keeps all.
    """

    t: float
    last: bytes | None = None

    def keeps(self, critical: npt.NDArray[np.float64], ranks: Ranks) -> npt.NDArray[np.bool_]:
        """Return which pairs are kept.

        Args:
            critical: critical t, shape (n,).
            ranks: of dtype RANK, shape (n,).
        """
        kept: npt.NDArray[np.bool_] = critical <= self.t
        if self.last is not None:
            ties = np.flatnonzero(critical == self.t)
            kept[ties] = ~_after(_words(ranks[ties]), _words(np.frombuffer(self.last, RANK)))
        return kept

    def to_json(self) -> dict[str, Any]:
        """Return the cut as JSON; t also in hexadecimal, which is exact in every reader."""
        return {"t": self.t, "t_hex": self.t.hex(), "last": self.last and self.last.hex()}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Cut":
        """Read what `to_json` wrote."""
        return cls(float.fromhex(value["t_hex"]), value["last"] and bytes.fromhex(value["last"]))


def histogram(critical: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Count pairs per bin of critical t (shape (65536,)); histograms of parts add up.

    Pairs that no t keeps (inf) are not counted.
    """
    finite = critical[np.isfinite(critical)]
    bins = (finite.view(np.uint64) >> BIN_SHIFT).astype(np.int64)
    return np.bincount(bins, minlength=1 << 16)


def exact_size_cut(
    size: int, bins: npt.NDArray[np.int64], parts: Iterable[tuple[npt.NDArray[np.float64], Ranks]]
) -> Cut:
    """Return the cut that keeps exactly `size` pairs.

    Args:
        size: number of pairs, at least 1.
        bins: the histogram of all parts.
        parts: (critical t, ranks) of every part; only one bin of it is held in memory,
            at 40 bytes a pair.

    Raises:
        InvalidInputError: fewer pairs than `size` have a finite critical t.
    """
    total = int(bins.sum())
    if not 1 <= size <= total:
        raise InvalidInputError(
            f"size {size:,} cannot be had: {total:,} pairs can be kept; ask for 1 to {total:,}"
        )
    below = np.cumsum(bins)
    target = int(np.searchsorted(below, size))
    pieces: list[tuple[npt.NDArray[np.float64], Ranks]] = []
    for critical, ranks in parts:
        inside = (critical.view(np.uint64) >> BIN_SHIFT) == np.uint64(target)
        pieces.append((critical[inside], ranks[inside]))
    values = np.concatenate([critical for critical, _ in pieces])
    place = size - 1 - (int(below[target]) - int(bins[target]))
    t = np.partition(values, place)[place]
    ties = np.concatenate([_words(ranks[critical == t]) for critical, ranks in pieces])
    order = np.lexsort(ties.T[::-1])
    last = ties[order[place - int((values < t).sum())]]
    return Cut(float(t), last.astype(">u8").tobytes())


def _words(ranks: Ranks) -> npt.NDArray[np.uint64]:
    """Return ranks as numbers, shape (n, 4), whose order row by row is that of the ranks."""
    return np.ascontiguousarray(ranks).view(">u8").reshape(-1, 4).astype(np.uint64)


def _after(words: npt.NDArray[np.uint64], last: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Return which rows come after `last`, shape (1, 4): the first word that differs decides."""
    after = np.zeros(len(words), np.bool_)
    for word in (3, 2, 1, 0):
        same = words[:, word] == last[0, word]
        after = np.where(same, after, words[:, word] > last[0, word])
    return after
