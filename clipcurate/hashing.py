"""The hashes behind every id. All are xxh3-128, written as 32 lower-case hex digits."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from clipcurate.kernels import hash_joined, hash_twice
from clipcurate.kernels.buffers import string_buffers

CHUNK = 1 << 20

Strings: TypeAlias = "pa.Array | pa.ChunkedArray"


def canonical_json(value: Any) -> bytes:
    """Return `value` as JSON bytes with sorted keys and no spaces; equal values, equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def hash_json(value: Any) -> str:
    """Return the hash of a JSON value's canonical form."""
    return hash_bytes(canonical_json(value))


def hash_bytes(*parts: bytes) -> str:
    """Return the hash of the concatenation of `parts`."""
    state = xxhash.xxh3_128()
    for part in parts:
        state.update(part)
    return state.hexdigest()


def hash_file(path: str | Path) -> str:
    """Return the hash of a local file's bytes."""
    with Path(path).open("rb") as file:
        return hash_stream(file)


def hash_stream(file: BinaryIO) -> str:
    """Return the hash of what is left to read of a file, without holding it in memory."""
    state = xxhash.xxh3_128()
    while chunk := file.read(CHUNK):
        state.update(chunk)
    return state.hexdigest()


def hash_pairs(firsts: Strings, seconds: Strings) -> npt.NDArray[np.uint64]:
    """Hash pairs of strings as xxh3_128(first, NUL, second).

    Args:
        firsts: Arrow column of n strings or byte strings; nulls count as empty.
        seconds: the same.

    Returns:
        uint64 array of shape (n, 2): the high and the low 64 bits, so that row order equals the
        order of the hex digits.
    """
    if len(firsts) != len(seconds):
        raise ValueError(f"{len(firsts)} and {len(seconds)} strings are no pairs")
    hashes = np.empty((len(firsts), 2), np.uint64)
    hash_joined(*string_buffers(firsts), *string_buffers(seconds), hashes)
    return hashes


def hash_pairs_twice(
    firsts: Strings, seconds: Strings, own: Strings
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
    """Hash pairs of strings to ids, and the ids with the second strings again, in one pass.

    Args:
        firsts: as for `hash_pairs`.
        seconds: the same.
        own: ids that take the place of hashes, as 32 hex digits; null elsewhere.

    Returns:
        Two uint64 arrays of shape (n, 2), as of `hash_pairs`: the ids, and the hashes of the ids
        as 32 lower-case hex digits with the second strings.
    """
    if len({len(firsts), len(seconds), len(own)}) > 1:
        raise ValueError(f"{len(firsts)}, {len(seconds)} and {len(own)} strings do not match")
    ids, hashes = np.empty((2, len(firsts), 2), np.uint64)
    known = own.is_valid().to_numpy(zero_copy_only=False)
    if known.any():
        ids[known] = column_to_halves(own.drop_null())
    hash_twice(*string_buffers(firsts), *string_buffers(seconds), known, ids, hashes)
    return ids, hashes


def hex_to_halves(digits: Iterable[str]) -> npt.NDArray[np.uint64]:
    """Turn 32-digit hex strings into a uint64 array of shape (n, 2), high half first."""
    return np.frombuffer(bytes.fromhex("".join(digits)), ">u8").astype(np.uint64).reshape(-1, 2)


def column_to_halves(column: Strings) -> npt.NDArray[np.uint64]:
    """As `hex_to_halves`, for an Arrow column without nulls."""
    data, bounds = string_buffers(column)
    return hex_to_halves([data[bounds[0] : bounds[-1]].tobytes().decode()])


def halves_to_hex(halves: npt.NDArray[np.uint64]) -> pa.StringArray:
    """Turn a uint64 array of shape (n, 2) back into an Arrow column of 32-digit hex strings."""
    digits = halves.astype(">u8").tobytes().hex().encode()
    offsets = np.arange(0, 32 * len(halves) + 1, 32, dtype=np.int32)
    return pa.StringArray.from_buffers(len(halves), pa.py_buffer(offsets), pa.py_buffer(digits))
