"""The pair table: one row per (image, text), the same columns whatever the pool's format."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clipcurate.pools.arrays import Int64s, bad_rows, byte_sizes, is_list, to_text, without
from clipcurate.pools.columns import text_fields

PAIR_SCHEMA = pa.schema(
    [
        pa.field("row", pa.int64()),
        pa.field("text_index", pa.int32()),
        pa.field("uid", pa.string()),
        pa.field("key", pa.string()),
        pa.field("url", pa.string()),
        pa.field("text", pa.large_string()),
        pa.field("lang", pa.string()),
        pa.field("reject", pa.string()),
        pa.field("row_bytes", pa.int64()),
    ]
)
"""Types of the canonical columns. `text` is null iff `reject` says why; `uid` is the pool's own."""

PAIR_FIELDS: tuple[str, ...] = tuple(PAIR_SCHEMA.names)
"""Names of the canonical columns, in order."""

NO_TEXT = "no_text"
NO_IMAGE = "no_image"
INVALID_UTF8 = "invalid_utf8"
MALFORMED = "malformed_record"
TRUNCATED = "truncated"

TABLE_BYTES = 1 << 26  # of texts and repeated values in one table: bounds a reader's memory
_UID = "^[0-9a-f]{32}$"


@dataclass(frozen=True)
class Records:
    """A batch of pool records, before their texts become pairs.

    Attributes:
        first_row: row of the first record in its shard.
        texts: of each text column: strings, lists of strings, or lists of structs with a text and
            its language (`text_fields`); may hold invalid UTF-8. A record's texts are those of all
            columns, in order.
        url, key, uid, lang: large_string, valid UTF-8, null where missing.
        reject: string; why the whole record is rejected, or null.
        extras: the other columns, valid UTF-8, by their final names.
        other_bytes: bytes of each record without its texts.
    """

    first_row: int
    texts: tuple[pa.Array, ...]
    url: pa.Array
    key: pa.Array
    uid: pa.Array
    lang: pa.Array
    reject: pa.Array
    extras: Mapping[str, pa.Array]
    other_bytes: Int64s


def extra_columns(source: pa.Table | pa.RecordBatch | pa.Schema) -> list[str]:
    """Return the names of the columns that are the pool's own, in order."""
    schema = source if isinstance(source, pa.Schema) else source.schema
    return [name for name in schema.names if name not in PAIR_FIELDS]


def extra_names(names: Collection[str]) -> dict[str, str]:
    """Return the final name of each extra: `pool_<name>` where it is a canonical column's."""
    final: dict[str, str] = {}
    taken = {*PAIR_FIELDS, *names}
    for name in names:
        new = name
        while new in PAIR_FIELDS or (new != name and new in taken):
            new = f"pool_{new}"
        taken.add(new)
        final[name] = new
    return final


def pair_tables(records: Records, batch_rows: int) -> Iterator[pa.Table]:
    """Yield the records' pairs as tables of at most `batch_rows` rows and about TABLE_BYTES."""
    pairs = _flatten(records)
    for start, stop in _cuts(pairs.bytes, batch_rows):
        yield _table(records, pairs, start, stop)


@dataclass(frozen=True)
class _Pairs:
    """All pairs of a batch: their record, place in it, text, and rejection; one item per pair."""

    record: Int64s
    index: Int64s
    text: pa.Array
    lang: pa.Array
    reject: pa.Array
    alone: pa.Array
    row_bytes: Int64s
    bytes: Int64s


def _flatten(records: Records) -> _Pairs:
    counts, text, lang = _texts(records.texts)
    lengths = byte_sizes(text)
    bad = np.union1d(bad_rows(text), bad_rows(lang))
    text, lang = without(text, bad), without(lang, bad)
    if len(text) == len(counts):  # a pair per record, as in most pools
        return _single(records, counts, lengths, (text, lang), bad)
    slots = np.maximum(counts, 1)
    starts = np.cumsum(slots) - slots
    record = np.repeat(np.arange(len(slots)), slots)
    reject = _rejections(records.reject.take(pa.array(record)), text, bad)
    own_bytes = records.other_bytes[record]
    sums = np.bincount(record, lengths, minlength=len(slots)).astype(np.int64)
    return _Pairs(
        record=record,
        index=np.arange(len(record)) - starts[record],
        text=_accepted(text, reject),
        lang=lang,
        reject=reject,
        alone=pa.array(counts[record] == 1),
        row_bytes=sums[record] + own_bytes,
        bytes=lengths + own_bytes,
    )


def _single(
    records: Records,
    counts: Int64s,
    lengths: Int64s,
    strings: tuple[pa.Array, pa.Array],
    bad: Int64s,
) -> _Pairs:
    """As `_flatten`, where no record has two texts: then nothing has to be repeated or added up."""
    text, lang = strings
    reject = _rejections(records.reject, text, bad)
    sizes = lengths + records.other_bytes
    return _Pairs(
        record=np.arange(len(counts)),
        index=np.zeros(len(counts), np.int64),
        text=_accepted(text, reject),
        lang=lang,
        reject=reject,
        alone=pa.array(counts == 1),
        row_bytes=sizes,
        bytes=sizes,
    )


def _accepted(text: pa.Array, reject: pa.Array) -> pa.Array:
    """Return the texts with nulls where they are rejected."""
    if reject.null_count == len(reject):
        return text
    return pc.if_else(reject.is_null(), text, pa.scalar(None, pa.large_string()))


def _texts(columns: tuple[pa.Array, ...]) -> tuple[Int64s, pa.Array, pa.Array]:
    """Return the texts of each record, and flat texts and languages.

    A record without any text has a null in its place.
    """
    parts = [_column_texts(column, alone=len(columns) == 1) for column in columns]
    counts, flat, lang = parts[0] if len(parts) == 1 else _joined(parts)
    if counts.all():
        return counts, flat, lang
    has_text = np.repeat(counts > 0, np.maximum(counts, 1))
    places = pa.array(np.cumsum(has_text) - 1, mask=~has_text)
    return counts, flat.take(places), lang.take(places)


_Texts = tuple[Int64s, pa.Array, pa.Array]


def _column_texts(texts: pa.Array, alone: bool) -> _Texts:
    """Return a column's texts of each record, and flat texts and languages.

    A null string is a text that is missing where its column stands alone, else none.
    """
    if not is_list(texts.type):
        flat = to_text(texts)
        counts = np.ones(len(flat), np.int64)
        if not alone:
            counts, flat = flat.is_valid().to_numpy(zero_copy_only=False) * counts, flat.drop_null()
        return counts, flat, pa.nulls(len(flat), pa.large_string())
    lengths = pc.fill_null(pc.list_value_length(texts), 0)
    counts = np.asarray(lengths.to_numpy(zero_copy_only=False), np.int64)
    flat = pc.list_flatten(texts)
    if not pa.types.is_struct(flat.type):
        return counts, to_text(flat), pa.nulls(len(flat), pa.large_string())
    text, lang = text_fields(tuple(field.name for field in flat.type))
    return counts, _field(flat, text), _field(flat, lang)


def _field(structs: pa.StructArray, name: str | None) -> pa.Array:
    if name is None:
        return pa.nulls(len(structs), pa.large_string())
    return to_text(pc.struct_field(structs, name))


def _joined(parts: list[_Texts]) -> _Texts:
    """Put the texts of several columns side by side, record by record."""
    record = np.concatenate([np.repeat(np.arange(len(counts)), counts) for counts, *_ in parts])
    order = pa.array(np.argsort(record, kind="stable"))
    counts = np.sum([counts for counts, *_ in parts], axis=0)
    flat, lang = (pa.concat_arrays([part[i] for part in parts]).take(order) for i in (1, 2))
    return counts, flat, lang


def _rejections(of_record: pa.Array, text: pa.Array, bad: Int64s) -> pa.Array:
    if not text.null_count:  # `bad` ones are null
        return of_record
    is_bad = np.zeros(len(text), bool)
    is_bad[bad] = True
    of_text = pc.if_else(text.is_null(), NO_TEXT, pa.scalar(None, pa.string()))
    return pc.coalesce(of_record, pc.if_else(pa.array(is_bad), INVALID_UTF8, of_text))


def _cuts(sizes: Int64s, batch_rows: int) -> Iterator[tuple[int, int]]:
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        done = int(ends[start - 1]) if start else 0
        fitting = int(np.searchsorted(ends, done + TABLE_BYTES, side="right"))
        stop = min(max(fitting, start + 1), start + batch_rows)
        yield start, stop
        start = stop


def _table(records: Records, pairs: _Pairs, start: int, stop: int) -> pa.Table:
    owner = pairs.record[start:stop]
    is_run = int(owner[-1]) - int(owner[0]) == len(owner) - 1

    def repeated(array: pa.Array) -> pa.Array:
        return array.slice(owner[0], len(owner)) if is_run else array.take(pa.array(owner))

    reject = pairs.reject.slice(start, stop - start)
    alone = pc.and_(pairs.alone.slice(start, stop - start), reject.is_null())
    columns = [
        pa.array(records.first_row + owner),
        pa.array(pairs.index[start:stop].astype(np.int32)),
        _valid_uid(repeated(records.uid), alone),
        _filled(repeated(records.key)),
        _filled(repeated(records.url)),
        pairs.text.slice(start, stop - start),
        _filled(pc.coalesce(pairs.lang.slice(start, stop - start), repeated(records.lang))),
        reject,
        pa.array(pairs.row_bytes[start:stop]),
    ]
    extras = [repeated(array) for array in records.extras.values()]
    fields = [
        pa.field(name, array.type) for name, array in zip(records.extras, extras, strict=True)
    ]
    schema = pa.schema([*PAIR_SCHEMA, *fields])
    return pa.Table.from_arrays([*columns, *extras], schema=schema)


def _filled(array: pa.Array) -> pa.Array:
    return (pc.fill_null(array, "") if array.null_count else array).cast(pa.string())


def _valid_uid(array: pa.Array, alone: pa.Array) -> pa.Array:
    if array.null_count == len(array):
        return pa.nulls(len(array), pa.string())
    lower = pc.ascii_lower(array)
    is_uid = pc.fill_null(pc.match_substring_regex(lower, _UID), False)
    return pc.if_else(pc.and_(is_uid, alone), lower, None).cast(pa.string())
