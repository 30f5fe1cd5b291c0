"""The fast engine: a trie over tokens, walked by compiled kernels.

A text is cut into tokens (see `kernels.splitting`), an entry into words; the entry occurs iff its
words are a run of the tokens. So each token is looked up once as a word, and a trie over word
numbers, entered at every token, finds the entries of several words. Both are perfect hash tables: a
key has one slot, where all that matters about it lies side by side. Keys hold up to 15 bytes of a
word; of a longer word they hold a hash, and its bytes are compared.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipcurate.errors import InvalidInputError
from clipcurate.kernels.buffers import Bytes, Offsets, string_buffers
from clipcurate.matching.kernels import (
    link,
    match_texts,
    number_nodes,
    number_words,
    place_children,
    place_words,
    split_entries,
)
from clipcurate.matching.kernels.layout import CHILD_SIZE, PADDING, WORD_SIZE, Tables, Tokens
from clipcurate.matching.matches import Matches
from clipcurate.matching.rules import Rule

_LOAD = 0.8
"""Share of a table's slots that are used: fuller takes longer to build."""

_KEYS_PER_BUCKET = 3
"""Keys that share a pilot: more make the pilots fewer, and finding them slower."""

_SEEDS = 64
"""Seeds to try. One fails about never, unless somebody chose the entries for it."""


class TokenTrie:
    """Finds all entries in texts without creating a Python object per text or hit.

    Holds nothing that matching changes: threads may share one, and the kernels run without the
    interpreter's lock.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = Tables(*(_frozen(array) for array in tables))

    @classmethod
    def build(cls, entries: pa.LargeStringArray, rule: Rule) -> "TokenTrie":
        """Build the tables for non-empty entries."""
        assert rule.strips == bool(rule.open_characters), "the kernels know no other rules"
        data, offsets = string_buffers(entries)
        padded, open_bits = np.pad(data, (0, PADDING)), _bit_set(rule.open_characters)
        tokens = _split(padded, offsets, open_bits)
        for seed in range(_SEEDS):
            tables = _build(padded, tokens, len(entries), open_bits, seed)
            if tables is not None:
                return cls(tables._replace(known=data))
        raise InvalidInputError(f"the entries have no perfect hash under {_SEEDS} seeds")

    @classmethod
    def restore(
        cls, entries: pa.LargeStringArray, _rule: Rule, tables: Mapping[str, npt.NDArray[Any]]
    ) -> "TokenTrie":
        """Take over tables as the property gave them."""
        return cls(Tables(known=string_buffers(entries)[0], **tables))

    @property
    def tables(self) -> Mapping[str, npt.NDArray[Any]]:
        """All that matching reads, by name, but for the entries' own bytes."""
        tables = self._tables._asdict()
        del tables["known"]
        return tables

    def match(self, column: "pa.Array | pa.ChunkedArray") -> Matches:
        """Match a column of strings; nulls have no hits."""
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        pieces = [piece for chunk in chunks for piece in _readable_pieces(chunk)]
        row_offsets = np.zeros(len(column) + 1, np.int64)
        hits = np.empty(sum(_room(offsets) for _, offsets in pieces), np.uint32)
        row = 0
        for data, offsets in pieces:
            ends = row_offsets[row : row + len(offsets)]
            hits = match_texts(self._tables, data, offsets, ends, hits)
            row += len(offsets) - 1
        return Matches(row_offsets, hits[: row_offsets[-1]])


def _readable_pieces(texts: pa.Array) -> Iterator[tuple[Bytes, Offsets]]:
    """Yield the texts as bytes and offsets, with PADDING bytes readable after each piece."""
    if pa.types.is_dictionary(texts.type):
        texts = texts.dictionary_decode()
    data, offsets = string_buffers(texts)
    safe = int(np.searchsorted(offsets[1:], len(data) - PADDING, "right"))
    yield _frozen(data), _frozen(offsets[: safe + 1])
    tail = np.pad(data[offsets[safe] : offsets[-1]], (0, PADDING))
    yield _frozen(tail), _frozen(offsets[safe:] - offsets[safe])


def _room(offsets: Offsets) -> int:
    """Return for how many hits to make room: plenty, as memory not written to costs nothing."""
    return int(offsets[-1] - offsets[0]) // 2 + 64


def _frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return a flat, read-only view: what comes from Arrow or a file is; kernels have one type."""
    view = array.reshape(-1).view()
    view.flags.writeable = False
    return view


@cache
def _bit_set(characters: frozenset[str]) -> Bytes:
    """Return one bit per code point, as many as are needed."""
    codes = np.array(sorted(map(ord, characters)), np.int64)
    bits = np.zeros(codes.max(initial=-1) // 8 * 8 + 8 if len(codes) else 0, np.uint8)
    bits[codes] = 1
    return np.packbits(bits, bitorder="little")


def _split(data: Bytes, offsets: Offsets, open_bits: Bytes) -> Tokens:
    """Return the tokens of all entries."""
    room = int(offsets[-1] - offsets[0]) + len(offsets)
    tokens = Tokens(*(np.zeros(room, np.uint64) for _ in Tokens._fields))
    used = split_entries(data, offsets, open_bits, tokens)
    return Tokens(*(field[:used] for field in tokens))


def _build(
    data: Bytes,
    tokens: Tokens,
    entries: int,
    open_bits: Bytes,
    seed: int,
) -> Tables | None:
    """Return the tables, or None if the seed does not do."""
    count = len(tokens.starts)
    keys, spans = np.empty((count, 2), np.uint64), np.empty((count, 2), np.uint64)
    words, child_keys = np.empty(count, np.uint64), np.empty(count, np.uint64)
    known = number_words(data, tokens, count, seed, keys, spans, words)
    if not known and entries:
        return None
    nodes, ends = np.zeros(known + count, np.uint64), np.zeros(known + count, np.uint64)
    repeats = np.zeros(entries, np.uint32)
    children = link(tokens, words, count, known, nodes, ends, repeats, child_keys)
    nodes, ends = nodes[: known + children], ends[: known + children]
    number_nodes(data, spans[:known], open_bits, nodes)
    word_table = _place(place_words, WORD_SIZE, keys[:known], seed, nodes, ends)
    child_table = _place(
        place_children, CHILD_SIZE, child_keys[:children], seed, nodes[known:], ends[known:]
    )
    if word_table is None or child_table is None:
        return None
    depth = np.bincount(tokens.rows.astype(np.int64)).max(initial=1)
    return Tables(
        *word_table,
        *child_table,
        spans=spans[:known] if known else np.zeros((1, 2), np.uint64),
        known=data,
        repeats=repeats if repeats.any() else repeats[:0],
        open_bits=open_bits,
        numbers=np.array([seed, depth], np.uint64),
    )


def _place(
    place: Callable[..., bool],
    width: np.uint64,
    keys: npt.NDArray[np.uint64],
    seed: int,
    nodes: npt.NDArray[np.uint64],
    ends: npt.NDArray[np.uint64],
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint16]] | None:
    """Return a perfect hash table and its pilots, or None if the seed does not do."""
    table = np.zeros((int(len(keys) / _LOAD) + 1) * int(width), np.uint64)
    pilots = np.zeros(1 << (len(keys) // _KEYS_PER_BUCKET).bit_length(), np.uint16)
    done = place(keys, seed, nodes, ends, pilots, table)
    return (table, pilots) if done else None
