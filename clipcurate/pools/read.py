"""Reading one slice of a pool, whatever its format."""

from collections.abc import Iterator

import pyarrow as pa

from clipcurate.errors import InvalidInputError, UnreadableInputError
from clipcurate.pools.columns import Columns
from clipcurate.pools.delimited import read_delimited
from clipcurate.pools.jsonl import read_jsonl
from clipcurate.pools.parquet import read_parquet
from clipcurate.pools.pins import verify
from clipcurate.pools.plan import Slice
from clipcurate.pools.shards import Shard
from clipcurate.pools.webdataset import read_webdataset

BATCH_ROWS = 65_536


def read_slice(
    shard: Shard,
    piece: Slice,
    columns: Columns,
    *,
    images: bool = False,
    batch_rows: int = BATCH_ROWS,
) -> Iterator[pa.Table]:
    """Yield the pairs of one slice as tables: the columns of PAIR_SCHEMA, then the extras.

    What a pair is does not depend on how the slice is cut into tables. The shard's pin is checked
    before the first table and after the last, so a file that changes meanwhile is noticed.

    Args:
        shard: as planned.
        piece: the row groups to read; its `shard` position is not looked at.
        columns: which column plays which part.
        images: also read the bytes of images (webdataset): extras `image`, `image_ext`.
        batch_rows: most rows in a table; large rows make it fewer.

    Raises:
        InputChangedError: the file is not the planned one.
        UnreadableInputError: the bytes are not of the shard's format.
        PoolError: a column is missing.
        StorageError: the storage refuses to read.
    """
    if batch_rows < 1:
        raise InvalidInputError(f"batch_rows is {batch_rows}; it must be at least 1")
    verify(shard)
    try:
        yield from _tables(shard, piece, columns, images, batch_rows)
    except UnreadableInputError:
        verify(shard)
        raise
    verify(shard)


def _tables(
    shard: Shard, piece: Slice, columns: Columns, images: bool, batch_rows: int
) -> Iterator[pa.Table]:
    if shard.format == "parquet":
        return read_parquet(shard, piece, columns, batch_rows)
    if piece.first_group or piece.num_groups:
        raise InvalidInputError(f"{shard.name}: has no row groups; plan the tasks again")
    if shard.format == "jsonl":
        return read_jsonl(shard, columns, batch_rows)
    if shard.format == "webdataset":
        return read_webdataset(shard, columns, images, batch_rows)
    return read_delimited(shard, columns, batch_rows)
