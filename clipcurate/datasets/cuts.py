"""From what is asked of an emission to the cut of each metadata language."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from clipcurate.balancing import Cut, exact_size_cut, thresholds, thresholds_for
from clipcurate.balancing.cut import Ranks, histogram
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.snapshot import Counts


class Ordered(Protocol):
    """Pairs, as far as their order among all pairs goes."""

    @property
    def critical(self) -> npt.NDArray[np.float64]:
        """Critical t, shape (n,)."""

    @property
    def ranks(self) -> Ranks:
        """What breaks ties, shape (n,)."""

    @property
    def rows_by_language(self) -> Mapping[str, npt.NDArray[np.int64]]:
        """The positions of each language's pairs."""


def resolve_cuts(
    request: EmissionRequest, counts: Counts, pairs: Iterable[Ordered]
) -> dict[str, Cut]:
    """Turn the request's target into a cut per metadata language.

    An exact size is the first so many pairs by (critical t / base, uid, shard, row, text index),
    where base is the t that the language would have without the size.

    Args:
        request: the emission.
        counts: the snapshot.
        pairs: all scored pairs, in parts; read twice, and only for a target size.

    Raises:
        InvalidInputError: the size cannot be had, or not with metadata of these languages.
    """
    request = request.for_languages(counts)
    if request.kind != "balanced":
        return {}
    bases = base_thresholds(request, counts)
    if request.size is None:
        return {name: Cut(t) for name, t in bases.items()}
    ratios = _Ratios(pairs, bases)
    bins = sum((histogram(part) for part, _ in ratios), np.zeros(1 << 16, np.int64))
    return spread(exact_size_cut(request.size, bins, ratios), bases)


def base_thresholds(request: EmissionRequest, counts: Counts) -> dict[str, float]:
    """Return each language's t, or what an exact size divides its critical t by."""
    if request.t is not None:
        return thresholds(counts, float(request.t), request.tail_rule)
    if request.tail_share is not None:
        return thresholds_for(counts, request.tail_share, request.tail_rule)
    return dict.fromkeys(counts, 1.0)


def spread(cut: Cut, bases: Mapping[str, float]) -> dict[str, Cut]:
    """Return the cut of critical t in each language that a cut of critical t / base comes to."""
    return {name: cut.times(base) for name, base in bases.items()}


@dataclass(frozen=True)
class _Ratios:
    """Critical t / base and ranks, part by part; inf where no metadata is, or the base is 0."""

    pairs: Iterable[Ordered]
    bases: Mapping[str, float]

    def __iter__(self) -> Iterator[tuple[npt.NDArray[np.float64], Ranks]]:
        """Yield the parts, computed again at every iteration."""
        for part in self.pairs:
            ratios = np.full(len(part.critical), np.inf)
            for name, rows in part.rows_by_language.items():
                if self.bases.get(name):
                    ratios[rows] = part.critical[rows] / self.bases[name]
            yield ratios, part.ranks
