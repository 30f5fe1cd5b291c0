"""Parquet files, read by the calling thread alone.

Arrow's threads may keep a Python file for a moment after they handed over what they read from it.
Where the process ends in that moment, letting go of the file wants an interpreter that is gone, and
the process aborts or hangs at its very end (github.com/apache/arrow/issues/34314, 33975, 50482). So
none of them is given a Python file: neither those that decode nor those that read ahead. Workers
are processes; what a thread more would decode, another worker does meanwhile.
"""

import io
from collections.abc import Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq


def open_parquet(source: BinaryIO, buffer_size: int = 0) -> pq.ParquetFile:
    """Read the footer of a seekable file. Read on with `use_threads=False`.

    Args:
        source: the file's bytes.
        buffer_size: bytes of a column held while its row group is read; 0 for all of them.

    Raises:
        pa.ArrowException, OSError: the footer is damaged, or this is no parquet file.
    """
    return pq.ParquetFile(source, buffer_size=buffer_size, pre_buffer=False)


def read_table(source: BinaryIO | bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a file as a table, with all columns or with these, in this order.

    Raises:
        pa.ArrowException, OSError: it is damaged, or no parquet file.
        KeyError: it lacks one of the columns.
    """
    file = open_parquet(io.BytesIO(source) if isinstance(source, bytes) else source)
    if columns is None:
        return file.read(use_threads=False)
    return file.read([*columns], use_threads=False).select([*columns])
