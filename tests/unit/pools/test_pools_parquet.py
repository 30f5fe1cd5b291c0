from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipcurate.errors import InvalidInputError, PoolError, UnreadableInputError
from clipcurate.pools import Columns, Slice, extra_columns, find_shards, read_slice


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.parquet"


def unchecked(values: list[bytes | None]) -> pa.Array:
    return pa.array(values, pa.binary()).view(pa.string())


def test_columns_play_their_parts_and_others_stay(path: Path, read: Any) -> None:
    pq.write_table(
        pa.table(
            {
                "size": pa.array([3, None], pa.int32()),
                "text": ["é", None],
                "uid": ["AB" * 16, "short"],
                "url": ["u", None],
                "row": [["x"], None],
                "lang": ["en", None],
            }
        ),
        path,
    )
    table = read(path)
    assert extra_columns(table) == ["size", "pool_row"]
    assert table.to_pylist() == [
        {"row": 0, "text_index": 0, "uid": "ab" * 16, "key": "AB" * 16, "url": "u", "text": "é"}
        | {"lang": "en", "reject": None, "row_bytes": 8, "size": 3, "pool_row": ["x"]},
        {"row": 1, "text_index": 0, "uid": None, "key": "short", "url": "", "text": None}
        | {"lang": "", "reject": "no_text", "row_bytes": 4, "size": None, "pool_row": None},
    ]


def test_slices_of_row_groups_add_up(path: Path) -> None:
    texts = [[f"{i}", f"{i}b"] if i % 3 else None for i in range(10)]
    pq.write_table(pa.table({"text": texts, "n": range(10)}), path, row_group_size=4)
    (shard,) = find_shards([str(path)], Columns())
    assert shard.groups == (4, 4, 2)
    whole = pa.concat_tables(read_slice(shard, Slice(0), Columns()))
    assert whole["row"].to_pylist() == [0, 1, 1, 2, 2, 3, 4, 4, 5, 5, 6, 7, 7, 8, 8, 9]
    pieces = [Slice(0, 0, 1), Slice(0, 1, 2)]
    parts = [part for piece in pieces for part in read_slice(shard, piece, Columns(), batch_rows=3)]
    assert pa.concat_tables(parts).equals(whole)
    assert max(map(len, parts)) == 3


def test_a_slice_beyond_the_file_is_refused(path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), path)
    (shard,) = find_shards([str(path)], Columns())
    with pytest.raises(InvalidInputError, match="has 1 row groups"):
        list(read_slice(shard, Slice(0, 1, 1), Columns()))


@pytest.mark.parametrize(
    "texts",
    [
        pa.array(["a", "", None], pa.large_string()),
        pa.array([b"a", b"", None]),
        pa.array(["a", "", None]).dictionary_encode(),
        pa.array([["a"], [""], []], pa.large_list(pa.large_string())),
    ],
)
def test_texts_of_any_string_type(path: Path, read: Any, texts: pa.Array) -> None:
    pq.write_table(pa.table({"text": texts}), path)
    table = read(path)
    assert table["text"].to_pylist() == ["a", "", None]
    assert table["reject"].to_pylist() == [None, None, "no_text"]


@pytest.mark.parametrize("kind", [pa.null(), pa.list_(pa.null())])
def test_a_column_of_nulls_is_rejected_rows(path: Path, read: Any, kind: pa.DataType) -> None:
    pq.write_table(pa.table({"text": pa.nulls(2, kind)}), path)
    assert read(path)["reject"].to_pylist() == ["no_text"] * 2


def test_invalid_utf8_rejects_its_row_wherever_it_is(path: Path, read: Any) -> None:
    good = [b"x"] * 6
    columns = {name: unchecked(good) for name in ("text", "url", "key", "lang", "note")}
    for row, name in enumerate(columns):
        columns[name] = unchecked([*good[:row], b"\xff", *good[row + 1 :]])
    nested = pa.StructArray.from_arrays([unchecked([b"x"] * 5 + [b"\xff"])], ["a"])
    pq.write_table(pa.table({**columns, "nested": nested}), path)
    table = read(path)
    table.validate(full=True)
    assert table["reject"].to_pylist() == ["invalid_utf8"] * 6
    assert table["note"].to_pylist() == ["x"] * 4 + [None, "x"]
    assert table["url"].to_pylist() == ["x", "", "x", "x", "x", "x"]


def test_invalid_utf8_leaves_other_rows_alone(path: Path, read: Any) -> None:
    pq.write_table(pa.table({"text": unchecked([b"a", b"\xff", b"c", None] * 50)}), path)
    table = read(path)
    assert table["reject"].to_pylist() == [None, "invalid_utf8", None, "no_text"] * 50
    assert table["text"].to_pylist() == ["a", None, "c", None] * 50


def test_a_url_that_is_the_key_as_well(path: Path, read: Any) -> None:
    pq.write_table(pa.table({"text": ["a"] * 3, "url": unchecked([b"u", b"\xff", None])}), path)
    table = read(path)
    assert table["url"].to_pylist() == table["key"].to_pylist() == ["u", "", ""]
    assert table["reject"].to_pylist() == [None, "invalid_utf8", None]
    assert table["row_bytes"].to_pylist() == [2, 1, 1]


def test_long_texts_and_nul_bytes_pass(path: Path, read: Any) -> None:
    texts = ["x" * 1_000_000, "\0", "y" * 10_000_000]
    pq.write_table(pa.table({"text": texts}), path)
    assert read(path)["text"].to_pylist() == texts


def test_integers_can_be_the_key(path: Path, read: Any) -> None:
    pq.write_table(pa.table({"text": ["a", "b"], "id": [7, None]}), path)
    table = read(path, Columns(key="id"))
    assert table["key"].to_pylist() == ["7", ""]
    assert table["id"].to_pylist() == [7, None]


@pytest.mark.parametrize("part", ["text", "url"])
def test_a_column_of_an_unusable_type_is_named(path: Path, part: str) -> None:
    pq.write_table(pa.table({"text": ["a"], "bad": [{"x": 1}]}), path)
    with pytest.raises(PoolError, match=f"a.parquet: column 'bad' is struct.*--{part}-column"):
        find_shards([str(path)], Columns(**{part: "bad"}))


def test_structs_of_texts(path: Path, read: Any) -> None:
    texts = [[{"text": "a", "lang": "en"}, {"text": "b", "lang": "de"}], None]
    pq.write_table(pa.table({"texts": texts, "alt": ["c", None], "n": [1, 2]}), path)
    needs_lang = Columns(text="texts", needs_lang=True)
    assert read(path, needs_lang)["lang"].to_pylist() == ["en", "de", ""]
    table = read(path, Columns(text="alt", more_texts=("texts",)))
    assert table["text"].to_pylist() == ["c", "a", "b", None]
    assert extra_columns(table) == ["n"]
    with pytest.raises(PoolError, match="no language column"):
        find_shards([str(path)], Columns(text="alt", needs_lang=True))
    with pytest.raises(PoolError, match="column 'n' is int64 and cannot be the text"):
        find_shards([str(path)], Columns(text="texts", more_texts=("n",)))


@pytest.mark.parametrize("struct", [{"x": "a"}, {"text": 3}, {"text": "a", "lang": 3}])
def test_structs_without_a_text_are_refused(path: Path, struct: dict[str, Any]) -> None:
    pq.write_table(pa.table({"text": [[struct]]}), path)
    with pytest.raises(PoolError, match=r"column 'text' is list.*cannot be the text"):
        find_shards([str(path)], Columns())


def test_two_columns_of_one_name_are_refused(path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, ["text", "text"]), path)
    with pytest.raises(PoolError, match="'text' occurs twice"):
        find_shards([str(path)], Columns())


@pytest.mark.parametrize("size", [0, 3, 100])
def test_a_truncated_file_is_found_but_unreadable(path: Path, size: int) -> None:
    pq.write_table(pa.table({"text": ["a"] * 1000}), path)
    path.write_bytes(path.read_bytes()[:size])
    (shard,) = find_shards([str(path)], Columns())
    assert shard.groups is None
    with pytest.raises(UnreadableInputError, match=r"a\.parquet: the footer cannot be read \("):
        list(read_slice(shard, Slice(0), Columns()))


def test_a_damaged_row_group_is_named(path: Path) -> None:
    texts = [f"text number {i * i}" for i in range(3000)]
    pq.write_table(pa.table({"text": texts}), path, row_group_size=1000, write_page_checksum=True)
    start = pq.read_metadata(path).row_group(1).column(0).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 64] = b"\xff" * 64
    path.write_bytes(data)
    (shard,) = find_shards([str(path)], Columns())
    assert shard.groups == (1000, 1000, 1000)
    with pytest.raises(UnreadableInputError, match=r"a\.parquet: row group 1 cannot be read"):
        list(read_slice(shard, Slice(0), Columns()))
    assert sum(map(len, read_slice(shard, Slice(0, 2, 1), Columns()))) == 1000
