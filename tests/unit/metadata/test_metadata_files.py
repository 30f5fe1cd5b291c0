import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipcurate.errors import MetadataError, NotFoundError, StorageError
from clipcurate.metadata import load

ENTRIES = ("new york", " a", "straße", "猫", "c++", "St. Louis")


def parquet(columns: dict[str, object] | pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


TWICE = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["entry", "entry"])
FORMS = {
    "metadata.json": json.dumps(ENTRIES).encode(),
    "unicode.json": json.dumps(ENTRIES, ensure_ascii=False, indent=1).encode(),
    "marked.json": b"\xef\xbb\xbf" + json.dumps(ENTRIES).encode(),
    "entries.txt": "\n".join(ENTRIES).encode(),
    "ended.txt": "".join(f"{entry}\n" for entry in ENTRIES).encode(),
    "windows.txt": b"\xef\xbb\xbf" + "".join(f"{entry}\r\n" for entry in ENTRIES).encode(),
    "no_extension": "\n".join(ENTRIES).encode(),
    "entry.parquet": parquet({"rank": list(range(6)), "entry": ENTRIES}),
    "only.parquet": parquet({"whatever": pa.array(ENTRIES, pa.large_string())}),
}


@pytest.mark.parametrize("gzipped", [False, True])
@pytest.mark.parametrize("name", FORMS)
def test_reads_every_form(tmp_path: Path, name: str, gzipped: bool) -> None:
    path = tmp_path / (f"{name}.gz" if gzipped else name)
    path.write_bytes(gzip.compress(FORMS[name]) if gzipped else FORMS[name])
    assert load(str(path)).entries == ENTRIES


def test_gzip_is_known_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "metadata.json"
    path.write_bytes(gzip.compress(FORMS["metadata.json"]))
    assert load(str(path)).entries == ENTRIES


def test_lines_keep_their_spaces(tmp_path: Path) -> None:
    path = tmp_path / "e.txt"
    path.write_text(" a\nb \n\u2028c\n\td")
    assert load(str(path)).entries == (" a", "b ", "\u2028c", "\td")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.json", b'{"a": 1}', "JSON list of strings is expected, this is an object"),
        ("m.json", b'"a"', "this is a string"),
        ("m.json", b"null", "this is null"),
        ("m.json", b"3", "this is a number"),
        ("m.json", b'["a", 3]', "entry 1 is a number"),
        ("m.json", b'["a", ["b"]]', "entry 1 is a list"),
        ("m.json", b'["a", true]', "entry 1 is a boolean"),
        ("m.json", b'["a", null]', "entry 1 is null"),
        ("m.json", b'["a", "\\ud800b"]', "entry 1 holds half a character"),
        ("m.json", b'["a"', "Expecting"),
        ("m.json", b"", "Expecting"),
        ("m.json", b"[" * 200_000, "recursion"),
        ("m.json", b'["\xff"]', "utf-8"),
        ("m.json", b"[]", "no entry"),
        ("m.json", b'["a", "", "a"]', "1 is empty; 2 repeats 0"),
        ("m.txt", b"a\n\nb\n", "1 is empty"),
        ("m.txt", b"a\r\nb\r\na\r\n", "2 repeats 0"),
        ("m.txt", b"", "no entry"),
        ("m.txt", b"\xff", "utf-8"),
        ("m.json.gz", b"\x1f\x8bnonsense", "m.json.gz"),
        ("m.json.gz", gzip.compress(b'["a"]')[:-9], "m.json.gz"),
        ("m.parquet", b"PAR1", "m.parquet"),
        ("m.parquet", parquet({"entry": [1, 2]}), "column 'entry' holds int64, not strings"),
        ("m.parquet", parquet({"entry": ["a", None]}), "1 nulls"),
        ("m.parquet", parquet({"id": ["1"], "name": ["dog"]}), "which column holds the entries"),
        ("m.parquet", parquet({}), "which column holds the entries"),
        ("m.parquet", parquet(TWICE), "column 'entry' is there more than once"),
    ],
)
def test_refuses_what_is_no_list_and_names_the_file(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MetadataError, match=message) as caught:
        load(str(tmp_path / name))
    assert name in str(caught.value)


def test_dedupe(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text('["b", "", "a", "b"]')
    assert load(str(path), dedupe=True).entries == ("b", "a")


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"m\.json"):
        load(str(tmp_path / "m.json"))
    with pytest.raises(StorageError, match="Is a directory"):
        load(str(tmp_path))
