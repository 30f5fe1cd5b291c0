"""Compiled code of the token trie: how it splits, hashes, builds and walks.

Bytes and numbers only. All offsets, lengths and counts are uint64: numba turns uint64 with int64
into float64, and checks signed indexes for negative ones. Little-endian machines only.
"""

import numpy as np

from clipcurate.kernels.entry import I64, U8, U32, U64, Array, Entry, Number, Record
from clipcurate.matching.kernels.layout import Tables, Tokens

_HERE = "clipcurate.matching.kernels"
_SIZE, _KEYS, _PILOTS = Number(np.uint64), Array(np.uint64, 2), Array(np.uint16)
_TOKENS = Record(Tokens, (U64, U64, U64, U64))
_TABLES = Record(Tables, (U64, _PILOTS, U64, _PILOTS, U64, U8, U32, U8, U64))

split_entries = Entry(f"{_HERE}.splitting.split_entries", U8, I64, U8, _TOKENS, returns=_SIZE)
number_words = Entry(
    f"{_HERE}.building.number_words",
    *(U8, _TOKENS, _SIZE, _SIZE, _KEYS, _KEYS, U64),
    returns=_SIZE,
)
link = Entry(
    f"{_HERE}.building.link",
    *(_TOKENS, U64, _SIZE, _SIZE, U64, U64, U32, U64),
    returns=_SIZE,
)
number_nodes = Entry(f"{_HERE}.building.number_nodes", U8, _KEYS, U8, U64)
place_words = Entry(
    f"{_HERE}.building.place_words", _KEYS, _SIZE, U64, U64, _PILOTS, U64, returns=Number(np.bool_)
)
place_children = Entry(
    f"{_HERE}.building.place_children", U64, _SIZE, U64, U64, _PILOTS, U64, returns=Number(np.bool_)
)
match_texts = Entry(f"{_HERE}.walking.match_texts", _TABLES, U8, I64, I64, U32, returns=U32)
take_rows = Entry(f"{_HERE}.hits.take_rows", I64, U32, I64, I64, U32)
count_ids = Entry(f"{_HERE}.hits.count_ids", U32, U32)

__all__ = [
    "count_ids",
    "link",
    "match_texts",
    "number_nodes",
    "number_words",
    "place_children",
    "place_words",
    "split_entries",
    "take_rows",
]
