"""Parquet shards: footers, and row groups as pair tables, without a Python loop over rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipcurate.errors import InvalidInputError, PoolError, UnreadableInputError
from clipcurate.parquet_files import open_parquet
from clipcurate.pools.arrays import bad_rows, byte_sizes, is_list, is_text, to_text, without
from clipcurate.pools.columns import (
    Columns,
    Roles,
    choose,
    refuse_duplicates,
    require,
    text_fields,
)
from clipcurate.pools.pairs import INVALID_UTF8, Records, extra_names, pair_tables
from clipcurate.pools.plan import Slice
from clipcurate.pools.shards import Shard
from clipcurate.pools.streams import BUFFER, open_source
from clipcurate.storage import is_local

BATCH_BYTES = 1 << 28  # uncompressed bytes of one batch, by the row group's average
# Arrow reports wrong bytes as any of these; failures of the storage itself are StorageError.
_DAMAGE = (pa.ArrowException, OSError, ValueError, OverflowError)


def read_footer(url: str) -> tuple[tuple[int, ...], pa.Schema] | None:
    """Return the rows of each row group and the schema; None if the footer is unreadable."""
    with open_source(url) as source:
        try:
            file = open_parquet(source)
            return _groups(file), file.schema_arrow
        except _DAMAGE:
            return None


def roles_of(schema: pa.Schema, columns: Columns, where: str) -> Roles:
    """Choose the columns of a parquet file. Raises PoolError if one is missing or unusable."""
    refuse_duplicates(schema.names, where)
    names = tuple(schema.names)
    if any(_has_lang(schema.field(name).type) for name in choose(columns, names).texts):
        columns = replace(columns, needs_lang=False)
    roles = require(columns, names, where)
    parts = [(part, getattr(roles, part)) for part in ("url", "key", "uid", "lang")]
    for part, name in [*(("text", name) for name in roles.texts), *parts]:
        if name is not None and not _is_usable(schema.field(name).type, part):
            raise PoolError(
                f"{where}: column {name!r} is {schema.field(name).type} and cannot be the {part}; "
                f"name another with --{part}-column"
            )
    return roles


def read_parquet(
    shard: Shard, piece: Slice, columns: Columns, batch_rows: int
) -> Iterator[pa.Table]:
    """Yield the pairs of a range of row groups.

    Raises:
        UnreadableInputError: names the file and, where it is known, the row group.
        PoolError: a column is missing.
    """
    with open_source(shard.url) as source:
        with _explained(shard, "the footer"):
            buffer = BUFFER if is_local(shard.url) else 0
            file = open_parquet(source, buffer)
            groups, schema = _groups(file), file.schema_arrow
        roles = roles_of(schema, columns, shard.name)
        for group in _range(piece, groups, shard):
            row = sum(groups[:group])
            for batch in _batches(file, group, shard, batch_rows):
                yield from pair_tables(_records(batch, roles, row), batch_rows)
                row += len(batch)


def _groups(file: pq.ParquetFile) -> tuple[int, ...]:
    metadata = file.metadata
    return tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))


def _range(piece: Slice, groups: tuple[int, ...], shard: Shard) -> range:
    stop = piece.first_group + piece.num_groups if piece.num_groups else len(groups)
    if not 0 <= piece.first_group <= stop <= len(groups):
        raise InvalidInputError(
            f"{shard.name}: has {len(groups)} row groups, asked for "
            f"{piece.num_groups} from {piece.first_group}; plan the tasks again"
        )
    return range(piece.first_group, stop)


def _batches(
    file: pq.ParquetFile, group: int, shard: Shard, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    metadata = file.metadata.row_group(group)
    with _explained(shard, f"row group {group}"):
        row_bytes = max(1, metadata.total_byte_size) // max(1, metadata.num_rows)
        size = min(batch_rows, max(1, BATCH_BYTES // max(1, row_bytes)))
        batches = file.iter_batches(size, row_groups=[group], use_threads=False)
    rows = 0
    while True:
        with _explained(shard, f"row group {group}"):
            batch = next(batches, None)
        if batch is None:
            break
        rows += len(batch)
        yield batch
    if rows != metadata.num_rows:
        raise UnreadableInputError(
            f"{shard.name}: row group {group} holds {rows} of {metadata.num_rows} rows; "
            "restore the file and run again, or go on without its rows"
        )


def _records(batch: pa.RecordBatch, roles: Roles, first_row: int) -> Records:
    bad: set[int] = set()

    def clean(name: str) -> pa.Array:
        column = batch.column(name)
        wrong = bad_rows(column)
        bad.update(wrong.tolist())
        return without(column, wrong)

    @cache  # one column may play several parts
    def field(name: str | None) -> pa.Array:
        if name is None:
            return pa.nulls(len(batch), pa.large_string())
        text = to_text(batch.column(name))
        wrong = bad_rows(text)
        bad.update(wrong.tolist())
        return without(text, wrong)

    names = [name for name in batch.schema.names if name not in roles.used]
    extras = {new: clean(old) for old, new in extra_names(names).items()}
    url, key, uid, lang = map(field, (roles.url, roles.key, roles.uid, roles.lang))
    sizes = sum(map(byte_sizes, extras.values()), byte_sizes(url))
    return Records(
        first_row=first_row,
        texts=tuple(batch.column(name) for name in roles.texts),
        url=url,
        key=key,
        uid=uid,
        lang=lang,
        reject=_rejected(len(batch), bad),
        extras=extras,
        other_bytes=sizes,
    )


def _rejected(rows: int, bad: set[int]) -> pa.Array:
    if not bad:
        return pa.nulls(rows, pa.string())
    mask = np.ones(rows, bool)
    mask[list(bad)] = False
    return pa.array(np.full(rows, INVALID_UTF8, object), pa.string(), mask=mask)


def _has_lang(kind: pa.DataType) -> bool:
    """Say whether a text column brings the language of each text."""
    is_structs = is_list(kind) and pa.types.is_struct(kind.value_type)
    return is_structs and text_fields(_field_names(kind.value_type))[1] is not None


def _field_names(kind: pa.StructType) -> tuple[str, ...]:
    return tuple(field.name for field in kind)


def _is_usable(kind: pa.DataType, part: str) -> bool:
    if part == "text" and is_list(kind):
        kind = kind.value_type
        if pa.types.is_struct(kind):
            text, lang = text_fields(_field_names(kind))
            kinds = [kind.field(name).type for name in (text, lang) if name is not None]
            return text is not None and all(is_text(k) or pa.types.is_null(k) for k in kinds)
    if part == "text":
        return is_text(kind) or pa.types.is_null(kind)
    return is_text(kind) or pa.types.is_null(kind) or pa.types.is_primitive(kind)


@contextmanager
def _explained(shard: Shard, part: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise UnreadableInputError(
            f"{shard.name}: {part} cannot be read ({error}); "
            "restore the file and run again, or go on without its rows"
        ) from error
