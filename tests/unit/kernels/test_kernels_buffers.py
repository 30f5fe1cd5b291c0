from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from clipcurate.kernels.buffers import string_buffers

TEXTS = ["a", "", None, "bc", "é"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(TEXTS),
        pa.array(TEXTS, pa.large_string()),
        pa.array([text and text.encode() for text in TEXTS], pa.binary()),
        pa.array(["x", *TEXTS, "y"])[1:-1],
        pa.chunked_array([TEXTS[:2], [], TEXTS[2:]], pa.string()),
        pa.chunked_array([["x", *TEXTS, "y"]], pa.string())[1:-1],
        pa.chunked_array([["x", *TEXTS[:2]], TEXTS[2:]], pa.large_string())[1:],
    ],
    ids=str,
)
def test_every_kind_of_string_column(column: pa.Array | pa.ChunkedArray) -> None:
    data, offsets = string_buffers(column)
    assert offsets.dtype == np.int64
    pieces = [data[a:b].tobytes() for a, b in pairwise(offsets)]
    assert pieces == [(text or "").encode() for text in TEXTS]


@pytest.mark.parametrize("column", [pa.array([], pa.string()), pa.chunked_array([], pa.string())])
def test_no_texts(column: pa.Array | pa.ChunkedArray) -> None:
    data, offsets = string_buffers(column)
    assert len(data) == 0
    assert offsets.tolist() == [0]
