"""Matching each text against the metadata of its language."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipcurate.languages.choice import LanguageChoice
from clipcurate.matching import Matcher, Matches
from clipcurate.metadata import ALL

Names = npt.NDArray[np.str_]
MatcherFor = Callable[[str], Matcher | None]
"""Returns the matcher of a metadata language; None where the run has no metadata for it."""


@dataclass(frozen=True)
class Router:
    """Finds the languages and hits of texts.

    Attributes:
        matcher_for: asked only for languages that occur.
        choose: finds the metadata language of each row of a table of pairs.
    """

    matcher_for: MatcherFor
    choose: Callable[[pa.Table], Names]

    @classmethod
    def of(cls, choice: LanguageChoice | None, folder: str, matcher_for: MatcherFor) -> "Router":
        """Return the router of a run.

        Args:
            choice: how its texts find their languages; None where one list serves all.
            folder: the run's folder.
            matcher_for: its matchers.

        Raises:
            NotFoundError, InvalidInputError, StorageError: its identifier cannot be loaded.
        """
        return cls(matcher_for, choice.chooser(folder) if choice else _all)

    def match(self, texts: pa.ChunkedArray, languages: Names) -> Matches:
        """Return the hits of a column of texts; none where its language has no metadata.

        Args:
            texts: a string column; nulls have no hits.
            languages: metadata language of each text, shape (n,); "" has no metadata.
        """
        groups = rows_by_name(languages)
        parts = [self._match_language(name, texts, rows) for name, rows in groups.items()]
        if len(parts) <= 1:
            return parts[0] if parts else _no_hits(0)
        order = np.concatenate(list(groups.values()))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return Matches.concatenate(parts).take(place)

    def _match_language(
        self, name: str, texts: pa.ChunkedArray, rows: npt.NDArray[np.int64]
    ) -> Matches:
        matcher = self.matcher_for(name) if name else None
        if matcher is None:
            return _no_hits(len(rows))
        return matcher.match(texts if len(rows) == len(texts) else texts.take(pa.array(rows)))


def rows_by_name(names: Names) -> dict[str, npt.NDArray[np.int64]]:
    """Return the ascending rows of each distinct name, names in order."""
    if len(names) and (names == names[0]).all():
        return {str(names[0]): np.arange(len(names))}
    coded = pa.array(names, pa.string()).dictionary_encode()
    codes = coded.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    edges = np.cumsum(np.bincount(codes, minlength=len(coded.dictionary)))[:-1]
    pieces = np.split(order, edges) if len(codes) else []
    found = dict(zip(coded.dictionary.to_pylist(), pieces, strict=True))
    return dict(sorted(found.items()))


def _all(pairs: pa.Table) -> Names:
    return np.full(pairs.num_rows, ALL)


def _no_hits(texts: int) -> Matches:
    return Matches(np.zeros(texts + 1, np.int64), np.zeros(0, np.uint32))
