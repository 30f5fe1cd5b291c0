"""The face of matching: an Arrow string column in, CSR arrays out."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt
import pyarrow as pa

from clipcurate.errors import InvalidInputError
from clipcurate.kernels.buffers import string_buffers
from clipcurate.matching import tables_file
from clipcurate.matching.aho_corasick import AhoCorasick
from clipcurate.matching.matches import Matches
from clipcurate.matching.rules import RULES, Rule
from clipcurate.matching.token_trie import TokenTrie
from clipcurate.metadata import Metadata

Arrays = Mapping[str, npt.NDArray[Any]]


class Engine(Protocol):
    """What finds the hits."""

    @classmethod
    def build(cls, entries: pa.LargeStringArray, rule: Rule) -> "Engine":
        """Build it for non-empty entries."""

    @classmethod
    def restore(cls, entries: pa.LargeStringArray, rule: Rule, tables: Arrays) -> "Engine":
        """Make it of tables that it had."""

    @property
    def tables(self) -> Arrays:
        """Flat arrays, which may be stored and mapped."""

    def match(self, column: "pa.Array | pa.ChunkedArray") -> Matches:
        """Match a column of strings; nulls have no hits."""


ENGINES: dict[str, type[Engine]] = {"token-trie": TokenTrie, "aho-corasick": AhoCorasick}
"""Engines by name, the default first; all give the same result."""

_BYTES, _OFFSETS = "entry_bytes", "entry_offsets"


class Matcher:
    """Finds every entry that occurs in a text.

    Threads may share one; matching holds no interpreter lock (engine token-trie).

    Attributes:
        entries: the entries in order.
        rule: one of RULES.
        engine: one of ENGINES.

    Example:
        >>> matcher = Matcher.build(["new york", "york city", "city"])
        >>> matcher.match(pa.array(["New york city", "new york city"])).entry_ids
        array([1, 2, 0, 1, 2], dtype=uint32)
    """

    def __init__(
        self, entries: pa.LargeStringArray, rule: str, engine: str, tables: Arrays | None = None
    ) -> None:
        require_known("rule", rule, tuple(RULES))
        require_known("engine", engine, tuple(ENGINES))
        self.entries = entries
        self.rule = rule
        self.engine = engine
        kind = ENGINES[engine]
        self._engine = (
            kind.build(entries, RULES[rule])
            if tables is None
            else kind.restore(entries, RULES[rule], tables)
        )

    @classmethod
    def build(
        cls, entries: Sequence[str], rule: str = "metaclip1", engine: str = "token-trie"
    ) -> "Matcher":
        """Build a matcher.

        Args:
            entries: non-empty strings; a repeated entry matches under each of its ids.
            rule: one of RULES.
            engine: one of ENGINES.

        Raises:
            InvalidInputError: an unknown rule or engine, or an entry that is empty or no text.
        """
        for number, entry in enumerate(entries):
            if not entry:
                raise InvalidInputError(f"entry {number} is empty; it would match any double space")
        try:
            column = pa.array(entries, pa.large_string())
        except UnicodeEncodeError as error:
            raise InvalidInputError(f"an entry has no UTF-8 form ({error})") from error
        return cls(column, rule, engine)

    @cached_property
    def fingerprint(self) -> str:
        """The fingerprint of the metadata."""
        return Metadata(tuple(self.entries.to_pylist())).fingerprint

    @property
    def nbytes(self) -> int:
        """Bytes of all that matching reads."""
        return sum(array.nbytes for array in self._arrays().values())

    def save(self, path: str | Path) -> None:
        """Write the matcher to one file; `load` brings it back."""
        about = {"rule": self.rule, "engine": self.engine, "fingerprint": self.fingerprint}
        tables_file.write(path, self._arrays(), about)

    @classmethod
    def load(cls, path: str | Path) -> "Matcher":
        """Map what `save` wrote into memory: all processes that do so share the pages.

        Raises:
            NotFoundError: no such file.
            InvalidInputError: the file is damaged, or not a matcher that this version reads.
        """
        arrays, about = tables_file.read(path)
        try:
            data, offsets = arrays.pop(_BYTES), arrays.pop(_OFFSETS)
            entries = pa.LargeStringArray.from_buffers(
                len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data)
            )
            matcher = cls(entries, about["rule"], about["engine"], arrays)
            matcher.__dict__["fingerprint"] = about["fingerprint"]
        except (KeyError, TypeError) as error:
            raise InvalidInputError(f"{path}: not a saved matcher ({error!r})") from error
        return matcher

    def match(self, column: "pa.Array | pa.ChunkedArray") -> Matches:
        """Match a column of texts.

        Args:
            column: string, large_string or dictionary of strings; may be sliced or chunked; nulls
                have no hits.

        Raises:
            InvalidInputError: the column does not hold strings.
        """
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
            raise InvalidInputError(f"texts must be strings, this column holds {column.type}")
        return self._engine.match(column)

    def _arrays(self) -> Arrays:
        data, offsets = string_buffers(self.entries)
        return {**self._engine.tables, _BYTES: data, _OFFSETS: offsets}


def warm_up() -> None:
    """Compile all that matching runs, or load it from numba's cache on disk."""
    for rule in RULES:
        Matcher.build(["a b", "a"], rule).match(pa.array(["a b"]))


def require_known(what: str, name: str, names: Sequence[str]) -> None:
    """Raise InvalidInputError unless `name` is one of `names`."""
    if name not in names:
        raise InvalidInputError(f"unknown {what} {name!r}; known: {', '.join(names)}")
