"""JSON-lines shards: one object per line; the fields that play no part stay as one JSON string."""

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from clipcurate.errors import PoolError
from clipcurate.hashing import canonical_json
from clipcurate.pools.columns import (
    LANG_ALIASES,
    Columns,
    Roles,
    choose,
    missing,
    require,
    text_fields,
)
from clipcurate.pools.pairs import INVALID_UTF8, MALFORMED, TRUNCATED
from clipcurate.pools.records import Record, make_record, stream_tables, text_value
from clipcurate.pools.shards import Shard
from clipcurate.pools.streams import Stream, lines, open_stream

EXTRAS = (pa.field("json", pa.string()),)
HEAD = 1000  # records in which every requested field must have appeared once

# Raw control characters inside strings are wrong JSON but harmless; NUL bytes occur in alt-texts.
_DECODER = json.JSONDecoder(strict=False)
_Parsed = dict[str, Any] | str
"""A record's object, or the reason why there is none."""


def read_jsonl(shard: Shard, columns: Columns, batch_rows: int) -> Iterator[pa.Table]:
    """Yield the pairs of a JSON-lines shard; blank lines are no records.

    Raises:
        PoolError: none of the first HEAD objects has a field that is asked for.
    """
    with open_stream(shard) as stream:
        parsed = _checked(_parse(stream, shard), columns, shard.name)
        records = (_record(item, columns) for item in parsed)
        yield from stream_tables(records, EXTRAS, batch_rows)


def parse_object(content: bytes) -> _Parsed:
    """Return the JSON object in `content`, or why it is rejected."""
    try:
        value = _DECODER.decode(content.decode())
    except UnicodeDecodeError:
        return INVALID_UTF8
    except (ValueError, RecursionError):
        return MALFORMED
    return value if isinstance(value, dict) else MALFORMED


def _parse(stream: Stream, shard: Shard) -> Iterator[_Parsed]:
    """Parse each line; a stream that stops early ends in one "truncated"."""
    is_cut = False
    for number, line in enumerate(lines(stream, shard.name)):
        if not line.strip():
            continue
        parsed = parse_object(line)
        if number == 0 and isinstance(parsed, str):
            _refuse_array(line, shard)
        is_cut = isinstance(parsed, str) and not line.endswith(b"\n")
        if not is_cut:
            yield parsed
    if is_cut or stream.damage:
        yield TRUNCATED


def _refuse_array(line: bytes, shard: Shard) -> None:
    is_json = ".json" in PurePosixPath(shard.name.lower()).suffixes
    if is_json and line.lstrip().startswith(b"["):
        raise PoolError(
            f"{shard.name}: is one JSON array, not one object per line; "
            "convert it with: jq -c '.[]'"
        )


def _checked(parsed: Iterable[_Parsed], columns: Columns, where: str) -> Iterator[_Parsed]:
    """Pass records on once all requested fields have been seen in them."""
    source = iter(parsed)
    names: dict[str, None] = {}
    head: list[_Parsed] = []
    for item in source:
        head.append(item)
        names.update(dict.fromkeys(_names(item, columns)) if isinstance(item, dict) else {})
        if not missing(columns, names) or len(head) == HEAD:
            break
    if names:
        require(columns, tuple(names), where)
    return chain(head, source)


def _names(fields: dict[str, Any], columns: Columns) -> list[str]:
    """Return the names of an object's fields, with a language's where its texts bring theirs."""
    value = text_value(fields, choose(columns, tuple(fields)))
    texts = value if isinstance(value, list) else []
    brings_lang = any(isinstance(t, dict) and text_fields(tuple(t))[1] for t in texts)
    return [*fields, *LANG_ALIASES[:brings_lang]]


def _record(parsed: _Parsed, columns: Columns) -> Record:
    if isinstance(parsed, str):
        return Record(extras=("",), reject=parsed)
    roles = choose(columns, tuple(parsed))
    try:
        rest = _rest(parsed, roles)
    except UnicodeEncodeError:
        return Record(extras=("",), reject=INVALID_UTF8)
    except RecursionError:
        return Record(extras=("",), reject=MALFORMED)
    return make_record(parsed, roles, text_value(parsed, roles), (rest,))


def _rest(fields: dict[str, Any], roles: Roles) -> str:
    used = roles.used
    return canonical_json({k: v for k, v in fields.items() if k not in used}).decode()
