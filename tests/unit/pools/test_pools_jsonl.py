import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipcurate.errors import PoolError
from clipcurate.pools import Columns
from clipcurate.pools.jsonl import parse_object

GOOD = b'{"text": "a"}\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.jsonl"


def test_fields_play_their_parts_and_the_rest_is_one_string(path: Path, read: Any) -> None:
    record = {"caption": "é", "url": "u", "uid": "A" * 32, "LANGUAGE": "en", "z": None, "b": [1]}
    path.write_text(json.dumps(record) + "\n")
    assert read(path).to_pylist() == [
        {
            "row": 0,
            "text_index": 0,
            "uid": "a" * 32,
            "key": "A" * 32,
            "url": "u",
            "text": "é",
            "lang": "en",
            "reject": None,
            "row_bytes": 2 + 1 + len('{"b":[1],"z":null}'),
            "json": '{"b":[1],"z":null}',
        }
    ]


def test_texts_of_objects_and_of_several_fields(path: Path, read: Any) -> None:
    path.write_bytes(
        b'{"texts": [{"text": "a", "lang": "en"}, {"text": "b"}], "alt": "c", "lang": "de"}\n'
        b'{"texts": null, "alt": "d"}\n{"n": 1}\n'
    )
    table = read(path, Columns(text="alt", more_texts=("texts",)))
    assert table["text"].to_pylist() == ["c", "a", "b", "d", None]
    assert table["lang"].to_pylist() == ["de", "en", "de", "", ""]
    assert table["json"].to_pylist() == ["{}"] * 4 + ['{"n":1}']


def test_languages_may_stand_with_the_texts(path: Path, read: Any) -> None:
    path.write_bytes(b'{"texts": []}\n{"texts": [{"text": "a", "lang": "en"}]}\n')
    assert read(path, Columns(needs_lang=True))["lang"].to_pylist() == ["", "en"]
    path.write_bytes(b'{"texts": [{"text": "a"}]}\n')
    with pytest.raises(PoolError, match="no language column"):
        read(path, Columns(needs_lang=True))


def test_a_field_that_is_only_the_key_stays(path: Path, read: Any) -> None:
    path.write_bytes(b'{"text": "a", "id": 7}\n')
    (pair,) = read(path, Columns(key="id")).to_pylist()
    assert (pair["key"], pair["json"]) == ("7", '{"id":7}')


@pytest.mark.parametrize(
    ("line", "reject"),
    [
        (b"not json", "malformed_record"),
        (b"[1]", "malformed_record"),
        (b'"text"', "malformed_record"),
        (b"[" * 100_000, "malformed_record"),
        (b'{"text": ' + b"9" * 5000 + b"}", "malformed_record"),
        (b'{"text": "\xff"}', "invalid_utf8"),
        (b'{"text": "\\ud800"}', "invalid_utf8"),
        (b'{"text": "a", "\\ud800": 1}', "invalid_utf8"),
        (b'{"text": null}', "no_text"),
        (b'{"text": 7}', "no_text"),
        (b'{"text": []}', "no_text"),
        (b'{"url": "u"}', "no_text"),
    ],
)
def test_a_bad_line_is_one_rejected_pair_and_reading_goes_on(
    path: Path, read: Any, line: bytes, reject: str
) -> None:
    path.write_bytes(GOOD + line + b"\n" + GOOD)
    table = read(path)
    assert table["row"].to_pylist() == [0, 1, 2]
    assert table["reject"].to_pylist() == [None, reject, None]
    assert table["text"].to_pylist() == ["a", None, "a"]


def test_lists_of_texts(path: Path, read: Any) -> None:
    path.write_bytes(b'{"texts": ["a", null, "", 5]}\n')
    table = read(path)
    assert table["text"].to_pylist() == ["a", None, "", None]
    assert table["text_index"].to_pylist() == [0, 1, 2, 3]


def test_blank_lines_and_a_byte_order_mark_are_no_records(path: Path, read: Any) -> None:
    path.write_bytes(b"\xef\xbb\xbf" + GOOD + b"\n \r\n" + GOOD)
    assert read(path)["row"].to_pylist() == [0, 1]


@pytest.mark.parametrize("size", [1_000_000, 10_000_000])
def test_long_texts_and_nul_bytes_pass(path: Path, read: Any, size: int) -> None:
    text = "\0" + "x" * size + "\0"
    raw = b'{"text": "\0"}\n'
    path.write_bytes(json.dumps({"text": text}).encode() + b"\n" + raw)
    assert read(path)["text"].to_pylist() == [text, "\0"]


def test_an_unfinished_last_line_is_truncated(path: Path, read: Any) -> None:
    path.write_bytes(GOOD + b'{"text": "b')
    assert read(path)["reject"].to_pylist() == [None, "truncated"]


def test_a_whole_last_line_needs_no_newline(path: Path, read: Any) -> None:
    path.write_bytes(GOOD + GOOD.rstrip())
    assert read(path)["reject"].to_pylist() == [None, None]


def test_a_truncated_gzip_ends_in_one_rejected_pair(tmp_path: Path, read: Any) -> None:
    path = tmp_path / "a.jsonl.gz"
    whole = gzip.compress(b"".join(b'{"text": "text %d"}\n' % i for i in range(5000)))
    path.write_bytes(whole[: len(whole) // 2])
    table = read(path)
    texts = table["text"].to_pylist()
    assert len(texts) > 1000
    assert texts[:-1] == [f"text {i}" for i in range(len(texts) - 1)]
    assert table["reject"].to_pylist()[-1] == "truncated"
    assert table["reject"].null_count == len(texts) - 1


def test_a_missing_field_is_named(path: Path, read: Any) -> None:
    path.write_bytes(b'broken\n{"body": "a"}\n')
    with pytest.raises(PoolError, match=r"a\.jsonl: no text column.*has: body.*--text-column"):
        read(path)
    with pytest.raises(PoolError, match=r"no column 'nope'.*--url-column"):
        read(path, Columns(text="body", url="nope"))


def test_a_field_may_be_absent_at_first(path: Path, read: Any) -> None:
    path.write_bytes(b'{"url": "u"}\n' * 5 + GOOD)
    assert read(path)["reject"].to_pylist() == ["no_text"] * 5 + [None]


def test_only_broken_lines_are_no_missing_field(path: Path, read: Any) -> None:
    path.write_bytes(b"x\ny\n")
    assert read(path)["reject"].to_pylist() == ["malformed_record"] * 2


def test_a_json_array_is_explained(tmp_path: Path, read: Any) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'[{"text": "a"}]')
    with pytest.raises(PoolError, match=r"one JSON array.*jq"):
        read(path)


def test_batches_change_nothing(path: Path, read: Any) -> None:
    path.write_bytes((GOOD + b"broken\n" + b'{"text": ["a", "b"], "n": 1}\n') * 7)
    whole = read(path)
    for rows in (1, 2, 5):
        assert read(path, batch_rows=rows).equals(whole)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(content=st.binary(max_size=60))
def test_any_bytes_give_rows_that_are_accepted_or_rejected(
    tmp_path_factory: pytest.TempPathFactory, read: Any, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.jsonl"
    path.write_bytes(GOOD + content + b"\n" + GOOD)
    table: pa.Table = read(path)
    table.validate(full=True)
    lines = [line for line in content.split(b"\n") if line.strip()]
    assert len(table) == len(lines) + 2
    assert table["text"].is_null().equals(table["reject"].is_valid())


def test_parse_object() -> None:
    assert parse_object(b'{"a": NaN}').keys() == {"a"}  # type: ignore[union-attr]
    assert parse_object(b"{") == "malformed_record"
    assert parse_object(b"\xff") == "invalid_utf8"
