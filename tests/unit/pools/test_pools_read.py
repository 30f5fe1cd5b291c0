from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipcurate.errors import InputChangedError, InvalidInputError
from clipcurate.pools import PAIR_FIELDS, Columns, Slice, find_shards, read_slice


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.csv", "a.tsv"])
def test_every_format_gives_the_same_canonical_columns(
    tmp_path: Path, read: Any, name: str
) -> None:
    path = tmp_path / name
    content = {
        "a.jsonl": '{"text": "x", "url": "u"}\n',
        "a.csv": "text,url\nx,u\n",
        "a.tsv": "text\turl\nx\tu\n",
    }
    if name == "a.parquet":
        pq.write_table(pa.table({"text": ["x"], "url": ["u"]}), path)
    else:
        path.write_text(content[name])
    (pair,) = read(path).select(PAIR_FIELDS).drop_columns(["row_bytes"]).to_pylist()
    assert pair == {"row": 0, "text_index": 0, "uid": None, "key": "u", "url": "u", "text": "x"} | {
        "lang": "",
        "reject": None,
    }


def test_files_in_memory_are_read(read: Any) -> None:
    fs = fsspec.filesystem("memory")
    pq.write_table(pa.table({"text": ["x"] * 100}), "/read/a.parquet", filesystem=fs)
    fs.pipe("/read/b.csv", b"text\ny\n")
    assert len(read("memory://read/a.parquet")) == 100
    assert read("memory://read/b.csv")["text"].to_pylist() == ["y"]


def test_a_changed_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nx\n")
    (shard,) = find_shards([str(tmp_path)], Columns())
    (tmp_path / "a.csv").write_text("text\nxyz\n")
    with pytest.raises(InputChangedError):
        next(read_slice(shard, Slice(0), Columns()))


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n" + "x\n" * 10)
    (shard,) = find_shards([str(tmp_path)], Columns())
    tables = read_slice(shard, Slice(0), Columns(), batch_rows=4)
    next(tables)
    (tmp_path / "a.csv").write_text("text\n")
    with pytest.raises(InputChangedError):
        list(tables)


def test_a_file_that_became_unreadable_has_changed(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["x"] * 10}), tmp_path / "a.parquet", row_group_size=5)
    (shard,) = find_shards([str(tmp_path)], Columns())
    tables = read_slice(shard, Slice(0), Columns())
    next(tables)
    (tmp_path / "a.parquet").write_bytes(b"")
    with pytest.raises(InputChangedError):
        list(tables)


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nx\n")
    (shard,) = find_shards([str(tmp_path)], Columns())
    with pytest.raises(InvalidInputError, match="batch_rows is 0"):
        list(read_slice(shard, Slice(0), Columns(), batch_rows=0))
    with pytest.raises(InvalidInputError, match="has no row groups"):
        list(read_slice(shard, Slice(0, 1, 1), Columns()))
