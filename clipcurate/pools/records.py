"""Records of stream formats (jsonl, csv, tsv, webdataset) and their way into pair tables."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa

from clipcurate.pools.columns import Roles, text_fields
from clipcurate.pools.pairs import INVALID_UTF8, TABLE_BYTES, Records, pair_tables

Extras = tuple[str | bytes | None, ...]


@dataclass(slots=True)
class Record:
    """One record; `bytes` is its size in memory without its texts.

    `langs` are the texts' own languages, or empty where no text brings one.
    """

    texts: Sequence[str | None] = ()
    url: str | None = None
    key: str | None = None
    uid: str | None = None
    lang: str | None = None
    extras: Extras = ()
    reject: str | None = None
    bytes: int = 0
    langs: Sequence[str | None] = ()


def make_record(
    fields: Mapping[str, Any], roles: Roles, texts: Any, extras: Extras, more_bytes: int = 0
) -> Record:
    """Build a record from its fields; one with a string that UTF-8 cannot hold is rejected.

    Args:
        fields: the record as its format gives it.
        roles: the columns that play the parts.
        texts: a text, or a list of texts or of objects with a text and perhaps its language;
            anything else is no text.
        extras: values of the extra columns, in order.
        more_bytes: bytes that count but are not in `extras` (an image that was not asked for).
    """
    url, key, uid, lang = [
        None if name is None else _string(fields.get(name)) for name in roles.described
    ]
    wanted, langs = _texts(texts)
    try:
        strings = [value for value in extras if isinstance(value, str)]
        size = more_bytes + _encoded_bytes([url, *strings])
        _encoded_bytes([key, uid, lang, *wanted, *langs])
    except UnicodeEncodeError:
        blank = tuple(None if value is None else type(value)() for value in extras)
        return Record(extras=blank, reject=INVALID_UTF8)
    return Record(wanted, url, key, uid, lang, extras, None, size, langs)


def text_value(fields: Mapping[str, Any], roles: Roles) -> Any:
    """Return the value of the text column, or of several as one list without what is missing."""
    if len(roles.texts) <= 1:
        return fields.get(roles.text or "")
    values = [fields.get(name) for name in roles.texts]
    lists = [value if isinstance(value, list) else [value] for value in values]
    return [text for texts in lists for text in texts if text is not None]


def stream_tables(
    records: Iterable[Record], extras: Sequence[pa.Field], batch_rows: int
) -> Iterator[pa.Table]:
    """Yield records as pair tables; memory is bounded by `batch_rows` and TABLE_BYTES."""
    row = 0
    for batch in _batches(records, batch_rows):
        yield from pair_tables(_to_arrays(batch, extras, row), batch_rows)
        row += len(batch)


def _batches(records: Iterable[Record], batch_rows: int) -> Iterator[list[Record]]:
    batch: list[Record] = []
    size = 0
    for record in records:
        batch.append(record)
        size += record.bytes + sum(len(text) for text in record.texts if text is not None)
        if len(batch) == batch_rows or size >= TABLE_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _to_arrays(batch: list[Record], extras: Sequence[pa.Field], row: int) -> Records:
    def strings(name: str) -> pa.Array:
        return pa.array([getattr(record, name) for record in batch], pa.large_string())

    return Records(
        first_row=row,
        texts=(_text_lists(batch),),
        url=strings("url"),
        key=strings("key"),
        uid=strings("uid"),
        lang=strings("lang"),
        reject=strings("reject").cast(pa.string()),
        extras={
            field.name: pa.array([record.extras[i] for record in batch], field.type)
            for i, field in enumerate(extras)
        },
        other_bytes=np.array([record.bytes for record in batch], np.int64),
    )


def _text_lists(batch: list[Record]) -> pa.Array:
    strings = pa.large_string()
    if not any(record.langs for record in batch):
        return pa.array([record.texts for record in batch], pa.large_list(strings))
    structs = [
        [{"text": text, "lang": lang} for text, lang in zip_longest(record.texts, record.langs)]
        for record in batch
    ]
    return pa.array(structs, pa.large_list(pa.struct({"text": strings, "lang": strings})))


def _texts(value: Any) -> tuple[Sequence[str | None], Sequence[str | None]]:
    """Return texts and their languages; no languages where no text brings one."""
    if isinstance(value, str):
        return (value,), ()
    if not isinstance(value, list):
        return (), ()
    if not any(isinstance(item, dict) for item in value):
        return [text if isinstance(text, str) else None for text in value], ()
    pairs = [_described_text(item) for item in value]
    return [text for text, _ in pairs], [lang for _, lang in pairs]


def _described_text(item: Any) -> tuple[str | None, str | None]:
    fields = item if isinstance(item, dict) else {"text": item}
    values = [fields.get(name or "") for name in text_fields(tuple(fields))]
    text, lang = (value if isinstance(value, str) else None for value in values)
    return text, lang


def _string(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) else None


def _encoded_bytes(strings: Iterable[str | None]) -> int:
    return len("".join(filter(None, strings)).encode())
