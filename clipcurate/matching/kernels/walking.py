"""Matching texts, block by block.

A block is some thousand tokens of whole texts. Each step goes through all of them before the next
begins, so that the processor waits for many cache misses at once and no branch depends on what was
found: look every token up, then extend all runs of tokens by one as long as there are any, then
sort the hits by text and entry.
"""

from typing import NamedTuple

import numpy as np

from clipcurate.kernels.compiling import kernel
from clipcurate.kernels.machine import prefetch
from clipcurate.matching.kernels.building import (
    CONTINUES,
    HAS_CHILD,
    IS_OPEN,
    NUMBER,
    child_key,
    same_bytes,
)
from clipcurate.matching.kernels.gathering import gather, sort_distinct
from clipcurate.matching.kernels.hashing import (
    INLINE,
    NO_WORD,
    ONE,
    child_hash,
    long_key,
    short_key,
    slot_of,
    word_hash,
)
from clipcurate.matching.kernels.layout import CHILD_SIZE, WORD_SIZE, Numbers, Tokens
from clipcurate.matching.kernels.splitting import (
    BREAK,
    SLACK,
    ZERO,
    Cursor,
    split_texts,
)

_2 = np.uint64(2)
_32 = np.uint64(32)
_LOW = np.uint64(2**32 - 1)
_MARKS = np.zeros(256, np.bool_)
_MARKS[list(b",.;:?!`")] = True

BLOCK = np.uint64(1024)
"""Tokens of a block: its arrays stay in the second-level cache."""


class Block(NamedTuple):
    """Room for one block: its tokens, what they are, and the runs that go on.

    Attributes:
        nodes, entries: node with flags, and entry + 1, of each token; 0 where it is no word.
        low, high, slots: keys and slots of what is being looked up.
        runs, reached: first token of each run that may go on, and the node at its end.
    """

    tokens: Tokens
    nodes: Numbers
    entries: Numbers
    low: Numbers
    high: Numbers
    slots: Numbers
    runs: Numbers
    reached: Numbers


@kernel
def make_block(size):
    """Return room for `size` tokens."""
    return Block(
        make_tokens(size),
        np.zeros(size + _2, np.uint64),
        np.empty(size, np.uint64),
        np.empty(size, np.uint64),
        np.empty(size, np.uint64),
        np.empty(size, np.uint64),
        np.empty(size, np.uint64),
        np.empty(size, np.uint64),
    )


@kernel
def make_tokens(size):
    """Return room for `size` tokens."""
    return Tokens(
        np.empty(size, np.uint64),
        np.empty(size, np.uint64),
        np.empty(size, np.uint64),
        np.zeros(size, np.uint64),
    )


@kernel
def match_texts(tables, data, offsets, row_offsets, hits):
    """Match all texts: text i is data[offsets[i]:offsets[i + 1]], valid UTF-8.

    PADDING bytes after the last text must be readable. The hits go into `hits` from row_offsets[0]
    on, and `row_offsets` says where each text's end. Returns `hits` or a larger array that replaces
    it.
    A text of more tokens than a block holds is matched piece by piece; pieces overlap by an entry.
    """
    rows, depth = np.uint64(offsets.size - 1), tables.numbers[1]
    block = make_block(max(BLOCK, _2 * depth) + _2 * SLACK)
    size = np.uint64(row_offsets[0])
    cursor = Cursor(ZERO, False, ZERO, ZERO, ZERO)
    while cursor.row < rows:
        count, row, cut, end = split_texts(data, offsets, cursor, tables.open_bits, block.tokens)
        look_up(tables, data, block, count)
        starts = _last_start(data, block.tokens, count - depth) if cut else count
        found, raw = find_hits(tables, block, count, starts)
        if size + found > np.uint64(hits.size):
            hits = _grown(hits, size, _2 * (size + found))
        texts = row - cursor.row + np.uint64(cut)
        ends = row_offsets[cursor.row + ONE : cursor.row + texts + ONE]
        size = gather(found, raw, hits, size, ends)
        if cursor.begun and not cut:
            size = sort_distinct(hits, np.uint64(row_offsets[cursor.row]), size)
            ends[0] = size
        tokens = block.tokens
        cursor = Cursor(row, cut, tokens.starts[starts], end, tokens.glued[starts])
    return hits


@kernel
def _last_start(data, tokens, token):
    """Return the token to go on with: this one, or where it is a mark, the one that it ends."""
    is_mark = tokens.lengths[token] == ONE and _MARKS[data[tokens.starts[token]]]
    return token - np.uint64(is_mark)


@kernel
def look_up(tables, data, block, count):
    """Find the nodes and entries of all tokens."""
    seed, slots = tables.numbers[0], np.uint64(tables.words.size) // WORD_SIZE
    starts, lengths = block.tokens.starts, block.tokens.lengths
    low, high, at, longs = block.low, block.high, block.slots, ZERO
    for token in range(count):
        length = lengths[token]
        if length <= INLINE:
            a, b = short_key(data, starts[token], length)
        elif length == BREAK:
            a, b = ZERO, NO_WORD
        else:
            a, b = long_key(data, starts[token], length, seed)
            block.runs[longs] = token
            longs += ONE
        slot = slot_of(word_hash(a, b, seed), tables.word_pilots, slots) * WORD_SIZE
        prefetch(tables.words, slot)
        low[token], high[token], at[token] = a, b, slot
    words = tables.words
    for token in range(count):
        slot = at[token]
        found = ZERO - np.uint64((words[slot] == low[token]) & (words[slot + ONE] == high[token]))
        block.nodes[token] = words[slot + _2] & found
        block.entries[token] = words[slot + _2 + ONE] & found
    block.nodes[count] = ZERO
    for number in range(longs):
        _verify(tables, data, block, block.runs[number])


@kernel
def _verify(tables, data, block, token):
    """Forget what was found for a long token if its bytes are others: only its hash is the same."""
    word = (block.nodes[token] & NUMBER) * _2
    start, length = block.tokens.starts[token], block.tokens.lengths[token]
    if tables.spans[word + ONE] != length or not same_bytes(
        data, start, tables.known, tables.spans[word], length
    ):
        block.nodes[token] = block.entries[token] = ZERO


@kernel
def find_hits(tables, block, count, starts):
    """Find all entries that begin at one of the first `starts` tokens.

    Returns their number and hits, text << 32 | entry, in no order and with repeats.
    """
    hits = np.empty(_2 * count, np.uint64)
    found, going = _begin(block, starts, hits)
    length = ONE
    while going:
        if found + going > np.uint64(hits.size):
            hits = _grown(hits, found, _2 * (found + going))
        found, going = _extend(tables, block, going, length, hits, found)
        length += ONE
    if tables.repeats.size:
        return _with_repeats(tables.repeats, hits, found)
    return found, hits


@kernel
def _begin(block, starts, hits):
    """Find the entries of one word, and begin runs; returns the numbers of both."""
    glued, nodes, entries, rows = block.tokens.glued, block.nodes, block.entries, block.tokens.rows
    runs, reached = block.runs, block.reached
    found, going = ZERO, ZERO
    for token in range(starts):
        node, entry = nodes[token], entries[token]
        begins = (node >> IS_OPEN) | (glued[token] ^ ONE)
        ends = (node >> IS_OPEN) | (glued[token + ONE] ^ ONE)
        hits[found] = (rows[token] << _32) + entry - ONE
        found += begins & ends & np.uint64(entry != ZERO)
        runs[going], reached[going] = token, node
        going += begins & (node >> HAS_CHILD) & (nodes[token + ONE] >> CONTINUES)
    return found, going


@kernel
def _extend(tables, block, going, length, hits, found):
    """Extend runs of `length` tokens by one; returns the new numbers of hits and of runs."""
    seed, slots = tables.numbers[0], np.uint64(tables.children.size) // CHILD_SIZE
    children, pilots = tables.children, tables.child_pilots
    nodes, glued, rows = block.nodes, block.tokens.glued, block.tokens.rows
    runs, reached, keys, places = block.runs, block.reached, block.low, block.slots
    for run in range(going):
        last = runs[run] + length
        key = child_key(reached[run], glued[last], nodes[last])
        slot = slot_of(child_hash(key, seed), pilots, slots) * CHILD_SIZE
        prefetch(children, slot)
        keys[run], places[run] = key, slot
    kept = ZERO
    for run in range(going):
        slot, token = places[run], runs[run]
        last = token + length
        is_child = np.uint64(children[slot] == keys[run])
        node, entry = children[slot + ONE], children[slot + _2]
        ends = (nodes[last] >> IS_OPEN) | (glued[last + ONE] ^ ONE)
        hits[found] = (rows[token] << _32) + entry - ONE
        found += is_child & ends & np.uint64(entry != ZERO)
        runs[kept], reached[kept] = token, node
        kept += is_child & (node >> HAS_CHILD) & (nodes[last + ONE] >> CONTINUES)
    return found, kept


@kernel
def _with_repeats(repeats, hits, found):
    """Add the other entries of the same strings."""
    for hit in range(found):
        row, other = hits[hit] >> _32, repeats[hits[hit] & _LOW]
        while other:
            if found == np.uint64(hits.size):
                hits = _grown(hits, found, _2 * found)
            hits[found] = (row << _32) + other - ONE
            found += ONE
            other = repeats[other - 1]
    return found, hits


@kernel
def _grown(array, used, size):
    """Return a larger array that begins with the used part of this one."""
    larger = np.empty(size, array.dtype)
    larger[:used] = array[:used]
    return larger
