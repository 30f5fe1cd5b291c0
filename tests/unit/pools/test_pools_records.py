import pyarrow as pa
import pytest

from clipcurate.pools import records
from clipcurate.pools.columns import Roles
from clipcurate.pools.records import Record, make_record, stream_tables

ROLES = Roles(text="text", url="url", key="key", uid="uid", lang="lang")
NOTE = [pa.field("note", pa.string())]


def test_fields_become_strings_and_bytes_are_counted() -> None:
    fields = {"url": "é", "key": 7, "uid": None, "lang": ["en"]}
    record = make_record(fields, ROLES, "text", ("abc", None, b"not counted"), 100)
    assert record == Record(
        texts=("text",), url="é", key="7", extras=("abc", None, b"not counted"), bytes=105
    )


@pytest.mark.parametrize(
    ("value", "texts"),
    [("a", ["a"]), (["a", 3, None], ["a", None, None]), ([], []), (None, []), (3, []), ({}, [])],
)
def test_texts_are_strings_or_lists_of_strings(value: object, texts: list[str | None]) -> None:
    assert list(make_record({}, ROLES, value, ()).texts) == texts


@pytest.mark.parametrize("part", ["url", "key", "uid", "lang"])
def test_a_lone_surrogate_rejects_the_record(part: str) -> None:
    record = make_record({part: "\ud800"}, ROLES, "text", ("abc", b"x"))
    assert record == Record(extras=("", b""), reject="invalid_utf8")
    assert make_record({}, ROLES, ["\ud800"], ()).reject == "invalid_utf8"
    assert make_record({}, ROLES, "a", ("\ud800",)).reject == "invalid_utf8"


def test_rows_count_on_over_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [Record([text], extras=(text,), bytes=1) for text in "abcde"]
    by_rows = list(stream_tables(made, NOTE, 2))
    assert [table["row"].to_pylist() for table in by_rows] == [[0, 1], [2, 3], [4]]
    monkeypatch.setattr(records, "TABLE_BYTES", 6)
    by_bytes = list(stream_tables(made, NOTE, 100))
    assert [len(table) for table in by_bytes] == [3, 2]
    assert pa.concat_tables(by_rows).equals(pa.concat_tables(by_bytes))


def test_a_rejected_record_is_one_row() -> None:
    (table,) = stream_tables([Record(extras=("x",), reject="truncated")], NOTE, 10)
    assert table.select(["row", "text", "reject", "note"]).to_pylist() == [
        {"row": 0, "text": None, "reject": "truncated", "note": "x"}
    ]
