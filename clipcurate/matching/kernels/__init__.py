"""Compiled code of the token trie: how it splits, hashes, builds and walks.

Bytes and numbers only. All offsets, lengths and counts are uint64: numba turns uint64 with int64
into float64, and checks signed indexes for negative ones. Little-endian machines only.
"""
