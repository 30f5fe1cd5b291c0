"""CSV and TSV shards: a header line, real quoting; columns without a part stay as strings."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from clipcurate.errors import UnreadableInputError
from clipcurate.pools.columns import Columns, Roles, refuse_duplicates, require
from clipcurate.pools.pairs import MALFORMED, TRUNCATED, extra_names
from clipcurate.pools.records import Record, make_record, stream_tables, text_value
from clipcurate.pools.shards import Shard
from clipcurate.pools.streams import MAX_RECORD, Stream, lines, open_stream

_DELIMITERS = {"csv": ",", "tsv": "\t"}


def read_delimited(shard: Shard, columns: Columns, batch_rows: int) -> Iterator[pa.Table]:
    """Yield the pairs of a csv or tsv shard; blank lines are no records.

    Raises:
        PoolError: the header lacks a column that is asked for.
        UnreadableInputError: the first line is no header.
    """
    with open_stream(shard) as stream:
        rows = iter(_Rows(stream, shard))
        header = next(rows, None)
        if header == TRUNCATED:
            yield from stream_tables([Record(reject=TRUNCATED)], [], batch_rows)
        elif header is not None:
            layout = _layout(header, columns, shard.name)
            yield from stream_tables(_records(rows, layout), layout.fields(), batch_rows)


class _Rows:
    """The rows of a delimited file: a list of fields, or why there is none."""

    def __init__(self, stream: Stream, shard: Shard) -> None:
        # The csv module has one limit for the whole process: 131,072 unless told.
        csv.field_size_limit(MAX_RECORD)
        self._stream = stream
        self._name = shard.name
        self._is_unterminated = False
        self._is_exhausted = False
        # strict: a quote that never closes is reported instead of passing as the last field.
        delimiter = _DELIMITERS[shard.format]
        self._reader = csv.reader(self._lines(), delimiter=delimiter, strict=True)

    def __iter__(self) -> Iterator[list[str] | str]:
        width = 0
        while (row := self._next()) is not None:
            width = width or len(row)
            is_bad = len(row) != width
            if self._is_cut(is_bad):
                yield TRUNCATED
                return
            yield MALFORMED if is_bad or not row else row
        if self._stream.damage:
            yield TRUNCATED

    def _is_cut(self, is_bad: bool) -> bool:
        """Say whether the file ends inside the row just read."""
        at_end = self._is_unterminated and (is_bad or bool(self._stream.damage))
        return self._is_exhausted or at_end

    def _next(self) -> list[str] | None:
        """Return the next row that is not blank, [] where csv refuses it, None at the end."""
        try:
            return next((row for row in self._reader if row), None)
        except csv.Error:
            return []

    def _lines(self) -> Iterator[str]:
        for line in lines(self._stream, self._name):
            self._is_unterminated = not line.endswith(b"\n")
            yield line.decode("utf-8", "surrogateescape")
        self._is_exhausted = True


@dataclass(frozen=True)
class _Layout:
    """The columns of a delimited file and the parts they play."""

    names: tuple[str, ...]
    roles: Roles

    def fields(self) -> list[pa.Field]:
        return [pa.field(name, pa.string()) for name in extra_names(self.extras()).values()]

    def extras(self) -> list[str]:
        return [name for name in self.names if name not in self.roles.used]


def _layout(header: list[str] | str, columns: Columns, where: str) -> _Layout:
    if isinstance(header, str) or not _is_utf8(header):
        raise UnreadableInputError(
            f"{where}: its first line does not name the columns ({header!r}); add a header"
        )
    refuse_duplicates(header, where)
    names = tuple(header)
    return _Layout(names, require(columns, names, where))


def _records(rows: Iterable[list[str] | str], layout: _Layout) -> Iterator[Record]:
    extras = layout.extras()
    empty = (None,) * len(extras)
    for row in rows:
        if isinstance(row, str):
            yield Record(extras=empty, reject=row)
        else:
            fields = dict(zip(layout.names, row, strict=True))
            others = tuple(fields[name] for name in extras)
            yield make_record(fields, layout.roles, text_value(fields, layout.roles), others)


def _is_utf8(names: list[str]) -> bool:
    try:
        "".join(names).encode()
    except UnicodeEncodeError:
        return False
    return True
