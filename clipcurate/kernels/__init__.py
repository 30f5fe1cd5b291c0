"""Compiled code: how it is made, what numba lacks, and hashing in bulk."""

import numpy as np

from clipcurate.kernels.entry import I64, U8, Array, Entry

_KNOWN, _HALVES = Array(np.bool_), Array(np.uint64, 2)

hash_joined = Entry("clipcurate.kernels.xxh3.hash_joined", U8, I64, U8, I64, _HALVES)
hash_twice = Entry("clipcurate.kernels.xxh3.hash_twice", U8, I64, U8, I64, _KNOWN, _HALVES, _HALVES)

__all__ = ["hash_joined", "hash_twice"]
