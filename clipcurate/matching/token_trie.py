"""The fast engine for rule `metaclip1`: a trie over words, walked by a compiled kernel.

The rule in terms of tokens: cut the spaced text at every space, keep empty tokens, drop the first
and the last (empty) piece. Cut an entry at every space, keep empty words. The entry matches iff its
words are a run of consecutive tokens. So each token is looked up once as a word, and a trie over
word numbers, entered at every token, finds the entries of several words.

Tables, all flat arrays of 64-bit numbers:

- words: open addressing, two numbers a slot, key and value. Key of a word of up to 7 bytes: its
  bytes, little-endian, and its length in the top byte; of a longer one: a hash with the top bit
  set, and then the bytes are compared. Value: node, entry and flags; 0 marks a free slot.
- children: the same with key = parent node << 32 | word. The nodes of single words come first and
  have the word's number, so a word is its own node.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from clipcurate.matching.matches import Matches

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Table = npt.NDArray[np.uint64]

# A value: node + 1 in bits 0-29, entry + 1 in bits 30-59, flags above.
_NODE = np.uint64((1 << 30) - 1)
_ENTRY_SHIFT = np.uint64(30)
_HAS_CHILD = np.uint64(1 << 60)
_IS_CONTINUATION = np.uint64(1 << 61)
_IS_REPEATED = np.uint64(1 << 62)
_LONG = np.uint64(1 << 63)

_U0, _U1, _U8, _U32, _U56 = (np.uint64(n) for n in (0, 1, 8, 32, 56))
_ODD = np.uint64(0x9E3779B97F4A7C15)
_OTHER_ODD = np.uint64(0xD6E8FEB86659FD93)
_INLINE = 7

_CLASSES = np.zeros(256, np.uint8)
_CLASSES[list(b" \t\n\r")] = 1
_CLASSES[list(b",.;:?!`")] = 2

_FIRST_CAPACITY = 8
"""Hits per text for which room is made at first."""


class TokenTrie:
    """Finds all entries in texts without creating a Python object per text or hit.

    Holds no state that matching changes: threads may share one, and the kernel runs without the
    interpreter's lock.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self._data, offsets = _buffers(pa.array(entries, pa.large_string()))
        count = int(np.count_nonzero(self._data == ord(" "))) + len(entries)
        self._children = np.zeros(2 * _slots(count - len(entries)), np.uint64)
        self._spans = np.zeros((count, 2), np.int64)
        self._repeats = np.full(len(entries), -1, np.int64)
        slots, firsts = np.zeros(count, np.uint64), np.zeros(len(entries) + 1, np.int64)
        known = count
        for _ in range(2):  # the second time in a table that fits the distinct words: fewer misses
            self._words = np.zeros(2 * _slots(known), np.uint64)
            known = _number_words(self._data, offsets, self._words, self._spans, slots, firsts)
        _link(self._words, self._children, slots, firsts, self._repeats, known)
        self._depth = int(np.diff(firsts).max(initial=1))
        self._most = 2 * self._depth * _longest_chain(self._repeats)

    def match(self, column: "pa.Array | pa.ChunkedArray") -> Matches:
        """Match a column of strings; nulls have no hits."""
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        parts = [self._match_chunk(chunk.cast(pa.large_string())) for chunk in chunks if len(chunk)]
        return Matches.concatenate(parts) if parts else _nothing()

    def _match_chunk(self, texts: pa.LargeStringArray) -> Matches:
        data, offsets = _buffers(texts)
        valid = texts.is_valid().to_numpy(zero_copy_only=False)
        row_offsets = np.zeros(len(texts) + 1, np.int64)
        hits = np.empty(len(texts) * _FIRST_CAPACITY + self._most, np.uint32)
        row = 0
        tables = (self._data, self._words, self._children, self._spans, self._repeats)
        active = np.empty(self._depth, np.uint64)
        while True:
            args = (active, self._most, data, offsets, valid, row, row_offsets, hits)
            row = _match(tables, *args)
            if row == len(texts):
                return Matches(row_offsets, hits[: row_offsets[-1]].copy())
            hits = np.concatenate([hits, np.empty_like(hits)])


def _nothing() -> Matches:
    return Matches(np.zeros(1, np.int64), np.zeros(0, np.uint32))


def _buffers(column: pa.LargeStringArray) -> tuple[Bytes, Ints]:
    """Return a column's bytes and its offsets into them, shape (n + 1,)."""
    _, offsets, data = column.buffers()
    bounds = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(data or b"", np.uint8), bounds


def _longest_chain(repeats: Ints) -> int:
    """Return the most entries that are one and the same string."""
    lengths = np.ones(len(repeats), np.int64)
    for entry in np.flatnonzero(repeats >= 0):  # ascending: what it leads to is done
        lengths[entry] += lengths[repeats[entry]]
    return int(lengths.max(initial=1))


def _slots(items: int) -> int:
    """Return a power of two that leaves a table at most half full."""
    return 1 << max(4, (2 * items).bit_length())


@njit(nogil=True, cache=True, inline="always")
def _mix(x):  # type: ignore[no-untyped-def] # pragma: no cover - compiled
    x = x * _ODD
    return x ^ (x >> _U32)


@njit(nogil=True, cache=True, inline="always")
def _slot(key, mask):  # type: ignore[no-untyped-def] # pragma: no cover - compiled
    return (((key ^ (key >> _U32)) * _OTHER_ODD) >> _U32) & mask


@njit(nogil=True, cache=True, inline="always")
def _key(data, start, end):  # type: ignore[no-untyped-def] # pragma: no cover - compiled
    """Return the key of the word data[start:end]."""
    chunk, hashed, shift = _U0, _U0, _U0
    for place in range(start, end):
        chunk |= np.uint64(data[place]) << shift
        shift += _U8
        if shift == np.uint64(64):
            hashed = _mix(hashed ^ chunk)
            chunk, shift = _U0, _U0
    length = np.uint64(end - start)
    if end - start <= _INLINE:
        return chunk | (length << _U56)
    return _mix(hashed ^ chunk ^ (length << _U56)) | _LONG


@njit(nogil=True, cache=True, inline="always")
def _same(data, start, end, known, spans, word):  # type: ignore[no-untyped-def] # pragma: no cover
    """Compare data[start:end] with the bytes of a known word."""
    first = spans[word, 0]
    if spans[word, 1] - first != end - start:
        return False
    for place in range(end - start):  # noqa: SIM110 - compiled
        if data[start + place] != known[first + place]:
            return False
    return True


@njit(nogil=True, cache=True, inline="always")
def _find_word(data, start, end, key, table, mask, known, spans):  # type: ignore[no-untyped-def] # pragma: no cover
    """Return the slot of a word, or of the free slot where it would be."""
    slot = _slot(key, mask)
    while True:
        value = table[2 * slot + _U1]
        if value == _U0:
            return slot
        if table[2 * slot] == key:
            short = (key & _LONG) == _U0
            if short or _same(data, start, end, known, spans, np.int64(value & _NODE) - 1):
                return slot
        slot = (slot + _U1) & mask


@njit(nogil=True, cache=True, inline="always")
def _find_child(key, table, mask):  # type: ignore[no-untyped-def] # pragma: no cover - compiled
    """Return the slot of a child, or of the free slot where it would be."""
    slot = _slot(_mix(key), mask)
    while table[2 * slot + _U1] != _U0 and table[2 * slot] != key:
        slot = (slot + _U1) & mask
    return slot


@njit(nogil=True, cache=True)
def _number_words(data, offsets, words, spans, slots, firsts):  # type: ignore[no-untyped-def] # pragma: no cover
    """Enter all words of all entries into the table, numbered as they come.

    Entry e's words are then at slots[firsts[e]:firsts[e + 1]] of the table.
    """
    mask = np.uint64(words.size // 2 - 1)
    known = count = 0
    for entry in range(offsets.size - 1):
        first = offsets[entry]
        for place in range(first, offsets[entry + 1] + 1):
            if place < offsets[entry + 1] and data[place] != 32:  # noqa: PLR2004 - a space
                continue
            key = _key(data, first, place)
            slot = _find_word(data, first, place, key, words, mask, data, spans)
            if words[2 * slot + _U1] == _U0:
                words[2 * slot], words[2 * slot + _U1] = key, np.uint64(known + 1)
                spans[known, 0], spans[known, 1] = first, place
                known += 1
            slots[count] = slot
            count += 1
            first = place + 1
        firsts[entry + 1] = count
    return known


@njit(nogil=True, cache=True)
def _link(words, children, slots, firsts, repeats, nodes):  # type: ignore[no-untyped-def] # pragma: no cover
    """Enter all entries into the trie, which has `nodes` nodes, one per word, so far."""
    mask = np.uint64(children.size // 2 - 1)
    for entry in range(firsts.size - 1):
        table, at = words, slots[firsts[entry]]
        for place in range(firsts[entry] + 1, firsts[entry + 1]):
            words[2 * slots[place] + _U1] |= _IS_CONTINUATION
            table[2 * at + _U1] |= _HAS_CHILD
            parent = (table[2 * at + _U1] & _NODE) - _U1
            key = (parent << _U32) | ((words[2 * slots[place] + _U1] & _NODE) - _U1)
            table, at = children, _find_child(key, children, mask)
            if children[2 * at + _U1] == _U0:
                nodes += 1
                children[2 * at], children[2 * at + _U1] = key, np.uint64(nodes)
        _end_entry(table, at, entry, repeats)


@njit(nogil=True, cache=True, inline="always")
def _end_entry(table, at, entry, repeats):  # type: ignore[no-untyped-def] # pragma: no cover
    """Say that an entry ends at a node; of equal entries, the newest leads to the one before."""
    before = (table[2 * at + _U1] >> _ENTRY_SHIFT) & _NODE
    if before != _U0:
        repeats[entry] = np.int64(before) - 1
        table[2 * at + _U1] &= ~(_NODE << _ENTRY_SHIFT)
        table[2 * at + _U1] |= _IS_REPEATED
    table[2 * at + _U1] |= np.uint64(entry + 1) << _ENTRY_SHIFT


@njit(nogil=True, cache=True, inline="always")
def _emit(value, repeats, hits, size):  # type: ignore[no-untyped-def] # pragma: no cover - compiled
    """Append a value's entries to the hits; return the new size. Room must be there."""
    entry = np.int64((value >> _ENTRY_SHIFT) & _NODE) - 1
    if entry >= 0:
        hits[size] = entry
        size += 1
        if value & _IS_REPEATED:
            while repeats[entry] >= 0:
                entry = repeats[entry]
                hits[size] = entry
                size += 1
    return size


@njit(nogil=True, cache=True)
def _sort_distinct(hits, start, end):  # type: ignore[no-untyped-def] # pragma: no cover - compiled
    """Sort hits[start:end] in place, drop what repeats, and return the new end."""
    if end - start > 48:  # noqa: PLR2004 - beyond this, insertion is slower
        hits[start:end].sort()
    else:
        for place in range(start + 1, end):
            value = hits[place]
            before = place - 1
            while before >= start and hits[before] > value:
                hits[before + 1] = hits[before]
                before -= 1
            hits[before + 1] = value
    kept = start
    for place in range(start, end):
        if place == start or hits[place] != hits[place - 1]:
            hits[kept] = hits[place]
            kept += 1
    return kept


@njit(nogil=True, cache=True, inline="always")
def _token(data, start, end, key, tables, active, live, hits, size):  # type: ignore[no-untyped-def] # pragma: no cover
    """Take in one token: extend the live trie nodes and enter the trie anew.

    Returns the new numbers of hits and of live nodes.
    """
    known, words, children, spans, repeats = tables
    mask = np.uint64(words.size // 2 - 1)
    value = words[2 * _find_word(data, start, end, key, words, mask, known, spans) + _U1]
    if value == _U0:
        return size, 0
    word = (value & _NODE) - _U1
    kept = 0
    if value & _IS_CONTINUATION:
        mask = np.uint64(children.size // 2 - 1)
        for place in range(live):
            slot = _find_child((active[place] << _U32) | word, children, mask)
            child = children[2 * slot + _U1]
            if child != _U0:
                size = _emit(child, repeats, hits, size)
                if child & _HAS_CHILD:
                    active[kept] = (child & _NODE) - _U1
                    kept += 1
    size = _emit(value, repeats, hits, size)
    if value & _HAS_CHILD:
        active[kept] = word
        kept += 1
    return size, kept


@njit(nogil=True, cache=True)
def _match(tables, active, most, data, offsets, valid, row, row_offsets, hits):  # type: ignore[no-untyped-def] # pragma: no cover
    """Match rows from `row` on; return the first row for whose hits there was no room.

    `most` hits are the most that one byte of text can bring.
    """
    for text in range(row, offsets.size - 1):
        size = row_offsets[text]
        live = 0
        first, last = offsets[text], offsets[text + 1]
        chunk, hashed, shift = _U0, _U0, _U0
        for place in range(first, last + 1 if valid[text] else first):
            kind = 1 if place == last else _CLASSES[data[place]]
            if kind == 0:
                chunk |= np.uint64(data[place]) << shift
                shift += _U8
                if shift == np.uint64(64):
                    hashed = _mix(hashed ^ chunk)
                    chunk, shift = _U0, _U0
                continue
            if size + most > hits.size:
                return text
            length = np.uint64(place - first) << _U56
            key = chunk | length
            if place - first > _INLINE:
                key = _mix(hashed ^ key) | _LONG
            size, live = _token(data, first, place, key, tables, active, live, hits, size)
            if kind == 2:  # noqa: PLR2004 - a mark is a token of its own
                key = np.uint64(data[place]) | (_U1 << _U56)
                size, live = _token(data, place, place + 1, key, tables, active, live, hits, size)
            first = place + 1
            chunk, hashed, shift = _U0, _U0, _U0
        row_offsets[text + 1] = _sort_distinct(hits, row_offsets[text], size)
    return offsets.size - 1
