"""The reference engine: pyahocorasick's automaton, walked text by text."""

from collections.abc import Mapping, Sequence
from typing import Any

import ahocorasick
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipcurate.matching.matches import Matches
from clipcurate.matching.rules import Rule


class AhoCorasick:
    """Finds all overlapping occurrences of all entries. Not thread-safe for building."""

    def __init__(self, entries: Sequence[str], rule: Rule) -> None:
        self._rule = rule
        self._ids: list[tuple[int, ...]] = []
        self._automaton = ahocorasick.Automaton()
        for entry, ids in _positions(entries).items():
            self._automaton.add_word(rule.spaced_entry(entry), len(self._ids))
            self._ids.append(ids)
        self._automaton.make_automaton()

    @classmethod
    def build(cls, entries: pa.LargeStringArray, rule: Rule) -> "AhoCorasick":
        """Build the automaton for non-empty entries."""
        return cls(entries.to_pylist(), rule)

    @classmethod
    def restore(
        cls, entries: pa.LargeStringArray, rule: Rule, _tables: Mapping[str, npt.NDArray[Any]]
    ) -> "AhoCorasick":
        """Build the automaton again: it can't be mapped."""
        return cls.build(entries, rule)

    @property
    def tables(self) -> Mapping[str, npt.NDArray[Any]]:
        """Nothing: the automaton can't be mapped."""
        return {}

    def match(self, column: "pa.Array | pa.ChunkedArray") -> Matches:
        """Match a column of strings; nulls have no hits."""
        rows = [self._match_one(text) for text in column.to_pylist()]
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return Matches(offsets, _flatten(rows, int(offsets[-1])))

    def _match_one(self, text: str | None) -> Sequence[int]:
        if text is None or not self._ids:
            return ()
        return sorted(entry_id for word in self.words(text) for entry_id in self._ids[word])

    def words(self, text: str) -> set[int]:
        """Return which distinct entries occur in a text, by number in order of appearance."""
        return {word for _, word in self._automaton.iter(self._rule.spaced_text(text))}


def _positions(entries: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Map each distinct entry to all its ids: duplicates each match."""
    positions: dict[str, tuple[int, ...]] = {}
    for entry_id, entry in enumerate(entries):
        positions[entry] = (*positions.get(entry, ()), entry_id)
    return positions


def _flatten(rows: Sequence[Sequence[int]], size: int) -> npt.NDArray[np.uint32]:
    return np.fromiter((entry_id for row in rows for entry_id in row), np.uint32, size)
