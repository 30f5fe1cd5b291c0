"""The face of matching: an Arrow string column in, CSR arrays out."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from clipcurate.errors import InvalidInputError, NotFoundError
from clipcurate.matching.aho_corasick import AhoCorasick
from clipcurate.matching.matches import Matches
from clipcurate.matching.token_trie import TokenTrie
from clipcurate.metadata import Metadata

RULES = ("metaclip1",)
"""Names of the matching rules."""

FORMAT = 1


class Engine(Protocol):
    """What finds the hits."""

    def match(self, column: "pa.Array | pa.ChunkedArray") -> Matches:
        """Match a column of strings; nulls have no hits."""


ENGINES: dict[str, Callable[[Sequence[str]], Engine]] = {
    "token-trie": TokenTrie,
    "aho-corasick": AhoCorasick,
}
"""Engines by name, the default first; all give the same result."""


class Matcher:
    """Finds every entry that occurs in a text.

    Example:
        >>> matcher = Matcher.build(["new york", "york city", "city"])
        >>> matcher.match(pa.array(["New york city", "new york city"])).entry_ids
        array([1, 2, 0, 1, 2], dtype=uint32)
    """

    def __init__(self, entries: Sequence[str], rule: str, engine: str) -> None:
        require_known("rule", rule, RULES)
        require_known("engine", engine, tuple(ENGINES))
        self.entries = tuple(entries)
        self.rule = rule
        self.engine = engine
        self._engine = ENGINES[engine](self.entries)

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
            InvalidInputError: an unknown rule or engine, or an empty entry.
        """
        if "" in entries:
            raise InvalidInputError(
                f"entry {list(entries).index('')} is empty; it would match any double space"
            )
        return cls(entries, rule, engine)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the metadata."""
        return Metadata(self.entries).fingerprint

    def save(self, path: str | Path) -> None:
        """Write the matcher to one file; `load` brings it back."""
        header = {"format": FORMAT, "rule": self.rule, "engine": self.engine}
        schema = pa.schema(
            [("entry", pa.large_string())], metadata={"clipcurate": json.dumps(header)}
        )
        table = pa.table([pa.array(self.entries, pa.large_string())], schema=schema)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            writer.write_table(table)

    @classmethod
    def load(cls, path: str | Path) -> "Matcher":
        """Read what `save` wrote.

        Raises:
            NotFoundError: no such file.
            InvalidInputError: the file is not a matcher of a version that this code reads.
        """
        try:
            with pa.memory_map(str(path)) as source:
                table = pa.ipc.open_file(source).read_all()
            header: dict[str, Any] = json.loads(table.schema.metadata[b"clipcurate"])
        except FileNotFoundError as error:
            raise NotFoundError(f"{path}: no such file") from error
        except (pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(f"{path}: not a saved matcher ({error})") from error
        if header["format"] != FORMAT:
            raise InvalidInputError(
                f"{path}: format {header['format']}, this version reads {FORMAT}; build it anew"
            )
        return cls(table["entry"].to_pylist(), header["rule"], header["engine"])

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


def require_known(what: str, name: str, names: Sequence[str]) -> None:
    """Raise InvalidInputError unless `name` is one of `names`."""
    if name not in names:
        raise InvalidInputError(f"unknown {what} {name!r}; known: {', '.join(names)}")
