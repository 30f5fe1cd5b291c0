from dataclasses import replace

import pyarrow as pa
import pytest

from clipcurate.pools import records
from clipcurate.pools.columns import Roles
from clipcurate.pools.records import Record, make_record, stream_tables, text_value

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


def test_objects_are_texts_with_their_languages() -> None:
    value = [{"caption": "a", "lang": "en"}, "b", {"text": "c"}, {"text": 3, "language": "de"}, 7]
    record = make_record({}, ROLES, value, ())
    assert record.texts == ["a", "b", "c", None, None]
    assert record.langs == ["en", None, None, "de", None]
    assert make_record({}, ROLES, [{"x": 1}], ()).texts == [None]
    assert make_record({}, ROLES, [{"text": "a", "lang": "\ud800"}], ()).reject == "invalid_utf8"
    (table,) = stream_tables([Record(["x"], lang="fr"), record], [], 100)
    assert table["lang"].to_pylist() == ["fr", "en", "", "", "de", ""]
    assert table["text"].to_pylist() == ["x", "a", "b", "c", None, None]


def test_several_text_columns_are_one_list_without_what_is_missing() -> None:
    roles = Roles(text="alt", url=None, key=None, uid=None, lang=None, more_texts=("title", "more"))
    assert text_value({"alt": "a", "title": ["b", None], "more": None}, roles) == ["a", "b"]
    assert text_value({"more": {"text": "c"}}, roles) == [{"text": "c"}]
    assert text_value({}, roles) == []
    assert text_value({"alt": None}, replace(roles, more_texts=())) is None


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
