"""Counts rebuilt from the match indexes, which are the truth behind them, and how others differ."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clipcurate.datasets.match_index import MatchIndex
from clipcurate.datasets.snapshot import Counts


def recount(
    sizes: Mapping[str, int], indexes: Iterable[MatchIndex]
) -> dict[str, npt.NDArray[np.int64]]:
    """Add up the texts per entry over the indexes of all counted tasks.

    Args:
        sizes: number of entries per metadata language.
        indexes: of the tasks, in any order; read once, one at a time.
    """
    counts = {name: np.zeros(size, np.int64) for name, size in sizes.items()}
    for index in indexes:
        index.add_to(counts)
    return counts


@dataclass(frozen=True)
class Difference:
    """How the counts of one language differ from their recount.

    Attributes:
        language: of the metadata.
        entries: number of entries.
        different: entries whose counts differ.
        found_sum, recounted_sum: of all counts.
        largest: (entry id, count found, recounted) of the entries that differ most, largest
            difference first, ties by entry id.
    """

    language: str
    entries: int
    different: int
    found_sum: int
    recounted_sum: int
    largest: tuple[tuple[int, int, int], ...]


def compare(found: Counts, recounted: Counts, largest: int) -> list[Difference]:
    """Compare counts with their recount, language by language, naming up to `largest` entries."""
    return [_difference(name, found[name], recounted[name], largest) for name in sorted(recounted)]


def _difference(
    language: str,
    found: npt.NDArray[np.int64],
    recounted: npt.NDArray[np.int64],
    largest: int,
) -> Difference:
    apart = np.abs(found - recounted)
    ids = np.flatnonzero(apart)
    top = ids[np.argsort(-apart[ids], kind="stable")[:largest]]
    return Difference(
        language=language,
        entries=len(recounted),
        different=len(ids),
        found_sum=int(found.sum()),
        recounted_sum=int(recounted.sum()),
        largest=tuple((int(i), int(found[i]), int(recounted[i])) for i in top),
    )
