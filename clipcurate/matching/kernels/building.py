"""From entries to the trie's tables."""

import numpy as np

from clipcurate.kernels.compiling import inlined, kernel
from clipcurate.matching.kernels.hashing import (
    INLINE,
    ONE,
    child_hash,
    find_pilots,
    long_key,
    short_key,
    word_hash,
)
from clipcurate.matching.kernels.layout import CHILD_SIZE, WORD_SIZE
from clipcurate.matching.kernels.splitting import ZERO, is_open_at

_32 = np.uint64(32)

NUMBER = np.uint64((1 << 32) - 1)
"""Bits of a node that hold its number; the flags lie above."""

HAS_CHILD, CONTINUES, IS_OPEN = np.uint64(63), np.uint64(62), np.uint64(61)
"""Flags of a node, by bit: it has children; its word is not only a first one; it is open."""

NO_CHILD = np.uint64(2**64 - 1)


@inlined
def child_key(parent, glued, word):
    """Return the key of a trie's edge; words have fewer than 2**31 numbers."""
    return ((parent & NUMBER) << _32) | (glued << np.uint64(31)) | (word & NUMBER)


@inlined
def key_of(data, start, length, seed):
    """Return the key of a word of any length."""
    if length <= INLINE:
        return short_key(data, start, length)
    return long_key(data, start, length, seed)


@inlined
def same_bytes(data, start, other, other_start, length):
    """Return if two runs of bytes are equal."""
    for place in range(length):
        if data[start + place] != other[other_start + place]:
            return False
    return True


@kernel
def number_words(data, tokens, count, seed, keys, spans, words):
    """Number the distinct words as they come: keys and spans by word, words by token.

    Returns their number; 0 if two of them have one key (another seed will do).
    """
    size = ONE
    while size < np.uint64(2) * count:
        size += size
    table, known = np.zeros(size, np.uint32), ZERO
    for token in range(count):
        start, length = tokens.starts[token], tokens.lengths[token]
        low, high = key_of(data, start, length, seed)
        slot = word_hash(low, high, seed) & (size - ONE)
        while table[slot] != 0:
            word = np.uint64(table[slot]) - ONE
            if keys[word, 0] == low and keys[word, 1] == high:
                break
            slot = (slot + ONE) & (size - ONE)
        if table[slot] == 0:
            keys[known, 0], keys[known, 1] = low, high
            spans[known, 0], spans[known, 1] = start, length
            known += ONE
            table[slot] = known
        word = np.uint64(table[slot]) - ONE
        if spans[word, 1] != length or not same_bytes(data, start, data, spans[word, 0], length):
            return ZERO
        words[token] = word
    return known


@kernel
def link(tokens, words, count, known, nodes, entries, repeats, child_keys):
    """Make the trie: flags and numbers of all nodes, entry + 1 of all nodes, keys of children.

    Words are nodes 0..known - 1; children follow in order of their keys' places. Of equal entries
    the last one is the node's, and each leads to the one before it by `repeats`. Returns the number
    of children.
    """
    size = ONE
    while size < np.uint64(2) * count:
        size += size
    table, children = np.zeros(size, np.uint32), ZERO
    node = ZERO
    for token in range(count):
        word, row = words[token], tokens.rows[token]
        if token > ZERO and tokens.rows[token - ONE] == row:
            nodes[word] |= ONE << CONTINUES
            nodes[node] |= ONE << HAS_CHILD
            key = child_key(node, tokens.glued[token], word)
            slot = child_hash(key, ZERO) & (size - ONE)
            while table[slot] != 0 and child_keys[table[slot] - 1] != key:
                slot = (slot + ONE) & (size - ONE)
            if table[slot] == 0:
                child_keys[children] = key
                children += ONE
                table[slot] = children
            node = known + np.uint64(table[slot]) - ONE
        else:
            node = word
        if token + ONE == count or tokens.rows[token + ONE] != row:
            if entries[node]:
                repeats[row] = entries[node]
            entries[node] = row + ONE
    return children


@kernel
def number_nodes(data, spans, open_bits, nodes):
    """Enter the nodes' numbers, and flag the words that are open characters."""
    for node in range(np.uint64(nodes.size)):
        nodes[node] |= node
    if open_bits.size:
        for word in range(np.uint64(spans.shape[0])):
            if spans[word, 1] and is_open_at(data, spans[word, 0], open_bits):
                nodes[word] |= ONE << IS_OPEN


@kernel
def place_words(keys, seed, nodes, entries, pilots, table):
    """Fill the table of words; returns False if the seed does not do."""
    slots = np.uint64(table.size) // WORD_SIZE
    known = np.uint64(keys.shape[0])
    hashes, places = np.empty(known, np.uint64), np.empty(known, np.uint64)
    for word in range(known):
        hashes[word] = word_hash(keys[word, 0], keys[word, 1], seed)
    if not find_pilots(hashes, pilots, slots, places):
        return False
    for word in range(known):
        at = places[word] * WORD_SIZE
        table[at], table[at + ONE] = keys[word, 0], keys[word, 1]
        table[at + np.uint64(2)], table[at + np.uint64(3)] = nodes[word], entries[word]
    return True


@kernel
def place_children(keys, seed, nodes, entries, pilots, table):
    """Fill the table of children; `nodes` and `entries` are theirs; False as for words."""
    slots = np.uint64(table.size) // CHILD_SIZE
    count = np.uint64(keys.size)
    hashes, places = np.empty(count, np.uint64), np.empty(count, np.uint64)
    for child in range(count):
        hashes[child] = child_hash(keys[child], seed)
    if not find_pilots(hashes, pilots, slots, places):
        return False
    for slot in range(slots):
        table[slot * CHILD_SIZE] = NO_CHILD
    for child in range(count):
        at = places[child] * CHILD_SIZE
        table[at], table[at + ONE] = keys[child], nodes[child]
        table[at + np.uint64(2)] = entries[child]
    return True
