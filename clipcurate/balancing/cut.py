"""The cut: which pairs a dataset keeps, given their critical t.

Pairs are ordered by (critical t, uid, shard, row, text index). A threshold keeps all pairs whose
critical t is at most t; an exact size keeps the first N in this order.

Where languages have each their own t, critical t / base takes the place of critical t: a float64
division, and its result decides. At the base itself both say the same: for floats, c / b <= 1
exactly if c <= b, since the quotient of neighbours is further from 1 than half a unit.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from clipcurate.errors import InvalidInputError

Ranks = npt.NDArray[np.void]
RanksOf = Callable[[npt.NDArray[np.int64]], Ranks]
"""Returns the ranks of the pairs at some positions."""

RANK = np.dtype([("uid", ">u8", (2,)), ("shard", ">u4"), ("row", ">u8"), ("text_index", ">u4")])
"""What breaks ties of critical t. Big-endian, so the order of values is the order of bytes."""

BIN_SHIFT = np.uint64(48)
"""Histogram bins are the leading 16 bits of a float64: its exponent and 4 bits of its mantissa."""


@dataclass(frozen=True)
class Cut:
    """Where a dataset ends.

    Attributes:
        t: largest critical t that is kept.
        last: rank of the last pair kept among those whose critical t / base equals t / base; None
            keeps all.
        base: what critical t is divided by where it is compared with other languages'.
        repeats: where only the uid of `last` is known, how many pairs with this uid are kept on the
            cut: the first ones of the pool.
    """

    t: float
    last: bytes | None = None
    base: float = 1.0
    repeats: int | None = None

    def times(self, base: float) -> "Cut":
        """Return the cut of critical t that keeps what this one keeps of critical t / base.

        Its t is the largest float64 that this one keeps when divided by `base`. A base of 0 keeps
        nothing.
        """
        if base == 0:
            return Cut(0.0)
        t = _largest(base, self.t)
        if t / base < self.t:
            return Cut(t, base=base)
        return Cut(t, self.last, base, self.repeats)

    def keeps(self, critical: npt.NDArray[np.float64], ranks_of: RanksOf) -> npt.NDArray[np.bool_]:
        """Return which pairs are kept.

        Args:
            critical: critical t, shape (n,).
            ranks_of: by position in `critical`; asked only for pairs on the cut of an exact size.
        """
        kept: npt.NDArray[np.bool_] = critical <= self.t
        if self.last is not None:
            ties = np.flatnonzero(critical / self.base == self.t / self.base)
            kept[ties] = ~_after(_words(ranks_of(ties)), _words(np.frombuffer(self.last, RANK)))
        return kept

    def repeated(self, critical: npt.NDArray[np.float64], ranks: Ranks) -> npt.NDArray[np.bool_]:
        """Return which pairs are on the cut and have the uid of the last pair kept, shape (n,)."""
        if self.last is None:
            return np.zeros(len(critical), np.bool_)
        uid = np.frombuffer(self.last, RANK)["uid"]
        on_the_cut = critical / self.base == self.t / self.base
        same: npt.NDArray[np.bool_] = on_the_cut & (ranks["uid"] == uid).all(1)
        return same

    def counted(self, repeats: int) -> "Cut":
        """Return the cut as it is told where no shards and rows are: by uid and repeats."""
        if self.last is None:
            return self
        nowhere = np.frombuffer(self.last, RANK).copy()
        for name in ("shard", "row", "text_index"):
            nowhere[name] = np.iinfo(RANK[name]).max
        return replace(self, last=nowhere.tobytes(), repeats=repeats)

    def to_json(self) -> dict[str, Any]:
        """Return the cut as JSON; floats also in hexadecimal, which is exact in every reader."""
        value: dict[str, Any] = {
            "t": self.t,
            "t_hex": self.t.hex(),
            "last": self.last and self.last.hex(),
        }
        if self.base != 1:
            value |= {"base": self.base, "base_hex": self.base.hex()}
        return value | ({"repeats": self.repeats} if self.repeats is not None else {})

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Cut":
        """Read what `to_json` wrote."""
        last = value["last"] and bytes.fromhex(value["last"])
        base = float.fromhex(value.get("base_hex", "0x1p+0"))
        return cls(float.fromhex(value["t_hex"]), last, base, value.get("repeats"))


def _largest(base: float, ratio: float) -> float:
    """Return the largest finite float64 t with t / base <= ratio; positive floats sort as bits."""
    low, high = 0, int(np.array(np.inf).view(np.int64))
    while high - low > 1:
        middle = (low + high) // 2
        if float(np.array(middle, np.int64).view(np.float64)) / base <= ratio:
            low = middle
        else:
            high = middle
    return float(np.array(low, np.int64).view(np.float64))


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
