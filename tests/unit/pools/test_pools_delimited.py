import csv
import gzip
import io
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipcurate.errors import PoolError, UnreadableInputError
from clipcurate.pools import Columns, extra_columns


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.csv"


def test_columns_play_their_parts_and_others_stay(path: Path, read: Any) -> None:
    path.write_text("id,TEXT,url,row\r\n7,é,u,x\r\n,,,\r\n")
    table = read(path, Columns(key="id"))
    assert extra_columns(table) == ["id", "pool_row"]
    assert table.drop_columns(["uid", "lang", "reject"]).to_pylist() == [
        {"row": 0, "text_index": 0, "key": "7", "url": "u", "text": "é", "row_bytes": 5}
        | {"id": "7", "pool_row": "x"},
        {"row": 1, "text_index": 0, "key": "", "url": "", "text": "", "row_bytes": 0}
        | {"id": "", "pool_row": ""},
    ]


def test_quotes_hold_newlines_delimiters_and_quotes(path: Path, read: Any) -> None:
    path.write_bytes(b'text,url\n"a\nb, ""c""\r\n",u\n"",v\n')
    assert read(path)["text"].to_pylist() == ['a\nb, "c"\r\n', ""]


def test_tabs_separate_tsv(tmp_path: Path, read: Any) -> None:
    (tmp_path / "a.tsv").write_bytes(b'\xef\xbb\xbftext\turl\na, b\tu\n"c\td"\tv\n')
    assert read(tmp_path / "a.tsv")["text"].to_pylist() == ["a, b", "c\td"]


@pytest.mark.parametrize(
    ("line", "reject"),
    [
        (b"only", "malformed_record"),
        (b"a,b,c", "malformed_record"),
        (b'"a"b,u', "malformed_record"),
        (b"a\rb,u", "malformed_record"),
        (b"\xff,u", "invalid_utf8"),
        (b"a,\xff", "invalid_utf8"),
    ],
)
def test_a_bad_row_is_one_rejected_pair_and_reading_goes_on(
    path: Path, read: Any, line: bytes, reject: str
) -> None:
    path.write_bytes(b"text,note\na,x\n" + line + b"\nb,y\n")
    table = read(path)
    assert table["row"].to_pylist() == [0, 1, 2]
    assert table["reject"].to_pylist() == [None, reject, None]
    assert table["note"].to_pylist()[::2] == ["x", "y"]


def test_long_texts_and_nul_bytes_pass(path: Path, read: Any) -> None:
    texts = ["x" * 10_000_000, "\0", "\0" + "y" * 1_000_000]
    path.write_text("".join(f"{text},u\n" for text in ["text", *texts]))
    assert read(path)["text"].to_pylist() == texts


@pytest.mark.parametrize("tail", [b'b,"u', b'b,"u\n', b"b", b'"b"x,u'])
def test_an_unfinished_last_row_is_truncated(path: Path, read: Any, tail: bytes) -> None:
    path.write_bytes(b"text,url\na,u\n" + tail)
    assert read(path)["reject"].to_pylist() == [None, "truncated"]


def test_a_whole_last_row_needs_no_newline(path: Path, read: Any) -> None:
    path.write_bytes(b"text,url\na,u\nb,v")
    assert read(path)["text"].to_pylist() == ["a", "b"]


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_truncated_stream_ends_in_one_rejected_pair(
    tmp_path: Path, read: Any, suffix: str
) -> None:
    compress = {"gz": gzip.compress, "zst": zstandard.compress}[suffix]
    path = tmp_path / f"a.csv.{suffix}"
    whole = compress(b"text,url\n" + b"".join(b"text %d,u%d\n" % (i, i) for i in range(40_000)))
    path.write_bytes(whole[: len(whole) * 2 // 3])
    table = read(path)
    count = len(table) - 1
    assert count > 1000
    assert table["text"].to_pylist() == [*(f"text {i}" for i in range(count)), None]
    assert table["reject"].to_pylist()[-1] == "truncated"


def test_a_stream_cut_in_its_header_is_one_rejected_pair(tmp_path: Path, read: Any) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"text,url\na,u\n")[:9])
    assert read(tmp_path / "a.csv.gz")["reject"].to_pylist() == ["truncated"]


def test_the_header_must_have_the_columns(path: Path, read: Any) -> None:
    path.write_bytes(b"a dog,http://x\n")
    with pytest.raises(PoolError, match=r"a\.csv: no text column.*has: a dog, http://x"):
        read(path)
    path.write_bytes(b"text,text\na,b\n")
    with pytest.raises(PoolError, match="'text' occurs twice"):
        read(path)


@pytest.mark.parametrize("header", [b"\xff,text\n", b'"a"b,text\n'])
def test_a_broken_header_is_unreadable(path: Path, read: Any, header: bytes) -> None:
    path.write_bytes(header + b"a,b\n")
    with pytest.raises(UnreadableInputError, match="does not name the columns"):
        read(path)


def test_blank_lines_are_no_records(path: Path, read: Any) -> None:
    path.write_bytes(b"\ntext,url\n\na,u\n\n")
    assert read(path)["row"].to_pylist() == [0]


cells = st.text(st.characters(codec="utf-8"), max_size=5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(rows=st.lists(st.tuples(cells, cells), min_size=1))
def test_what_csv_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, read: Any, rows: list[tuple[str, str]]
) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([("text", "note"), *rows])
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(buffer.getvalue().encode())
    table = read(path, batch_rows=3)
    assert list(zip(table["text"].to_pylist(), table["note"].to_pylist(), strict=True)) == rows
