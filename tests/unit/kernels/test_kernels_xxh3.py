import random

import numpy as np
import pyarrow as pa
import pytest
import xxhash

from clipcurate.kernels.buffers import string_buffers
from clipcurate.kernels.xxh3 import hash_joined


@pytest.mark.parametrize("cut", [0, 1, 7, 1000])
def test_equals_the_xxhash_package_at_every_length(cut: int) -> None:
    rng = random.Random(cut)
    texts = [rng.randbytes(length) for length in [*range(2200), 5000, 70_000, 1_000_003]]
    firsts = pa.array([text[:cut] for text in texts], pa.binary())
    seconds = pa.array([text[cut:] for text in texts], pa.large_binary())
    found = np.empty((len(texts), 2), np.uint64)
    hash_joined(*string_buffers(firsts), *string_buffers(seconds), found)
    expected = [xxhash.xxh3_128_hexdigest(text[:cut] + b"\0" + text[cut:]) for text in texts]
    assert [f"{int(high):016x}{int(low):016x}" for high, low in found] == expected
