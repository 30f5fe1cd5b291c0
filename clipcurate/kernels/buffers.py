"""Arrow strings as the flat arrays that kernels read."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]


def string_buffers(column: "pa.Array | pa.ChunkedArray") -> tuple[Bytes, Offsets]:
    """Return the bytes of a column of strings and its offsets into them, shape (n + 1,).

    Read-only, and not copied if it can be avoided. Nulls come as empty strings.
    """
    if isinstance(column, pa.ChunkedArray):
        chunks = [chunk.cast(pa.large_binary()) for chunk in column.chunks]
        chunks = chunks or [pa.array([], pa.large_binary())]
        column = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)
    column = column.cast(pa.large_binary())
    if column.null_count:
        column = column.fill_null(b"")
    _, offsets, data = column.buffers()
    if not len(column):
        return np.frombuffer(b"", np.uint8), np.frombuffer(bytes(8), np.int64)
    bounds = np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]
    return np.frombuffer(data or b"", np.uint8), bounds
