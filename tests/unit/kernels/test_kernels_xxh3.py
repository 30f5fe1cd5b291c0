import random

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import xxhash

from clipcurate.kernels import hash_joined, hash_twice
from clipcurate.kernels.buffers import string_buffers


def hex_of(hashes: npt.NDArray[np.uint64]) -> list[str]:
    return [f"{int(high):016x}{int(low):016x}" for high, low in hashes]


@pytest.mark.parametrize("cut", [0, 1, 7, 1000])
def test_equals_the_xxhash_package_at_every_length(cut: int) -> None:
    rng = random.Random(cut)
    texts = [rng.randbytes(length) for length in [*range(2200), 5000, 70_000, 1_000_003]]
    firsts = pa.array([text[:cut] for text in texts], pa.binary())
    seconds = pa.array([text[cut:] for text in texts], pa.large_binary())
    found = np.empty((len(texts), 2), np.uint64)
    hash_joined(*string_buffers(firsts), *string_buffers(seconds), found)
    ids, twice = np.zeros_like(found), np.empty_like(found)
    known = np.zeros(len(texts), np.bool_)
    hash_twice(*string_buffers(firsts), *string_buffers(seconds), known, ids, twice)
    expected = [xxhash.xxh3_128_hexdigest(text[:cut] + b"\0" + text[cut:]) for text in texts]
    again = [
        xxhash.xxh3_128_hexdigest(digits.encode() + b"\0" + text[cut:])
        for digits, text in zip(expected, texts, strict=True)
    ]
    assert hex_of(found) == hex_of(ids) == expected
    assert hex_of(twice) == again
    hash_twice(*string_buffers(firsts), *string_buffers(seconds), ~known, found, ids)
    assert (hex_of(found), hex_of(ids)) == (expected, again), "a known id stays, and is hashed"
