"""The arrays that Python and the kernels of matching share."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.uint64]

WORD_SIZE, CHILD_SIZE = np.uint64(4), np.uint64(3)
"""uint64 a slot. Of a word: key, key, node, entry + 1. Of a child: key, node, entry + 1."""

PADDING = 64
"""Bytes that must be readable after the last text."""


class Tokens(NamedTuple):
    """Tokens of consecutive texts, each text's followed by a BREAK.

    Attributes:
        starts, lengths: of their bytes.
        rows: their texts, counted from the first one here.
        glued: 1 if no space comes before.
    """

    starts: Numbers
    lengths: Numbers
    rows: Numbers
    glued: Numbers


class Tables(NamedTuple):
    """All that matching reads. Flat arrays, fit to be mapped from a file.

    Attributes:
        words, word_pilots: perfect hash table of the words; see WORD_SIZE.
        children, child_pilots: perfect hash table of the trie's edges; see CHILD_SIZE.
        spans: of each word: where its bytes are in `known`, and how many.
        known: the entries' bytes, uint8.
        repeats: of each entry: 1 + another entry of the same string, or 0; empty if all differ.
        open_bits: bit set of the characters that need no space beside them; empty by metaclip1.
        numbers: seed of the hashes; tokens of the longest entry.
    """

    words: Numbers
    word_pilots: npt.NDArray[np.uint16]
    children: Numbers
    child_pilots: npt.NDArray[np.uint16]
    spans: Numbers
    known: npt.NDArray[np.uint8]
    repeats: npt.NDArray[np.uint32]
    open_bits: npt.NDArray[np.uint8]
    numbers: Numbers
