"""Matching each text against the metadata of its language."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from clipcurate.languages.choice import LanguageChoice
from clipcurate.languages.codes import Names
from clipcurate.matching import Matcher, Matches
from clipcurate.metadata import ALL

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
            languages: metadata language of each text, n in all; "" has no metadata.
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
    codes, known = names.indices.to_numpy(), names.dictionary.to_pylist()
    if not len(codes):
        return {}
    if (codes == codes[0]).all():
        return {known[codes[0]]: np.arange(len(codes))}
    order = np.argsort(codes, kind="stable")
    pieces = np.split(order, np.cumsum(np.bincount(codes, minlength=len(known)))[:-1])
    found = {name: rows for name, rows in zip(known, pieces, strict=True) if len(rows)}
    return dict(sorted(found.items()))


def names_of(column: "pa.Array | pa.ChunkedArray") -> Names:
    """Return a column of strings as names; null is ""."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    return pc.fill_null(column, "").dictionary_encode()


def _all(pairs: pa.Table) -> Names:
    return pa.DictionaryArray.from_arrays(np.zeros(pairs.num_rows, np.int32), [ALL])


def _no_hits(texts: int) -> Matches:
    return Matches(np.zeros(texts + 1, np.int64), np.zeros(0, np.uint32))
