"""Metadata files: a JSON list (MetaCLIP's metadata.json), text lines, or parquet; also gzipped."""

import gzip
import json
import re
import zlib
from collections.abc import Callable

import pyarrow as pa

from clipcurate import storage
from clipcurate.errors import MetadataError
from clipcurate.metadata.entries import Metadata
from clipcurate.parquet_files import read_table

_GZIP_MAGIC = b"\x1f\x8b"
_COLUMNS = ("entry", "text", "metadata")
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")  # a JSON escape can name one, UTF-8 cannot
_BROKEN = (
    MetadataError,
    EOFError,
    zlib.error,
    OSError,
    ValueError,
    RecursionError,
    pa.ArrowException,
)


def load(url: str, *, dedupe: bool = False) -> Metadata:
    """Read the entries from a file.

    Args:
        url: `*.json` (a list of strings), `*.parquet` (a string column named entry, text or
            metadata, or the only column), or any other name: one entry a line. Each may be gzipped.
        dedupe: drop empty entries and repeats instead of refusing them.

    Raises:
        NotFoundError: no such file.
        MetadataError: not a list of strings; or bad entries without `dedupe`.
    """
    content = storage.read_bytes(url)
    try:
        if content.startswith(_GZIP_MAGIC):
            content = gzip.decompress(content)
        entries = _parser(url.removesuffix(".gz"))(content)
        return Metadata.from_entries(entries, dedupe=dedupe)
    except _BROKEN as error:
        raise MetadataError(f"{url}: {error}") from error


def _parser(name: str) -> Callable[[bytes], list[str]]:
    if name.endswith(".json"):
        return _parse_json
    return _parse_parquet if name.endswith((".parquet", ".parq")) else _parse_lines


def _parse_json(content: bytes) -> list[str]:
    value = json.loads(content)
    if not isinstance(value, list):
        raise MetadataError(
            f"a JSON list of strings is expected, this is {_json_kind(value)}; "
            "MetaCLIP's metadata.json is such a list"
        )
    for position, entry in enumerate(value):
        if not isinstance(entry, str):
            raise MetadataError(f"entry {position} is {_json_kind(entry)}, not a string")
        if _HALF_CHARACTER.search(entry):
            raise MetadataError(f"entry {position} holds half a character: {entry!r}")
    return value


def _json_kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return names.get(type(value), "null" if value is None else "a number")


def _parse_lines(content: bytes) -> list[str]:
    """One entry a line; only line ends and a byte order mark are cut, spaces belong to entries."""
    lines = content.decode("utf-8-sig").split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _parse_parquet(content: bytes) -> list[str]:
    table = read_table(content)
    names = [name for name in _COLUMNS if name in table.column_names][:1] or table.column_names
    if len(names) != 1:
        raise MetadataError(
            f"which column holds the entries? Name it {_COLUMNS[0]!r}; there are: {names}"
        )
    if table.column_names.count(names[0]) > 1:
        raise MetadataError(f"column {names[0]!r} is there more than once; keep one")
    column = table[names[0]]
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        raise MetadataError(f"column {names[0]!r} holds {column.type}, not strings")
    if column.null_count:
        raise MetadataError(f"column {names[0]!r} holds {column.null_count} nulls")
    entries: list[str] = column.to_pylist()
    return entries
