from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipcurate.errors import PoolError
from clipcurate.pools import Columns, Shard, find_shards


def test_a_pool_may_mix_formats(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    pq.write_table(pa.table({"text": ["a"] * 5}), tmp_path / "sub/p.parquet", row_group_size=3)
    (tmp_path / "a.csv.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "z.tar").write_bytes(bytes(1024))
    shards = find_shards([str(tmp_path)], Columns())
    assert [(shard.name, shard.format, shard.compression, shard.groups) for shard in shards] == [
        ("a.csv.gz", "csv", "gz", None),
        ("sub/p.parquet", "parquet", "", (3, 2)),
        ("z.tar", "webdataset", "", None),
    ]
    assert [shard.size for shard in shards] == [
        2,
        (tmp_path / "sub/p.parquet").stat().st_size,
        1024,
    ]
    assert [Shard.from_json(shard.to_json()) for shard in shards] == shards


def test_names_do_not_depend_on_the_order_of_patterns(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.csv").write_text("text\n")
    paths = [str(tmp_path / "b.csv"), str(tmp_path / "a.csv")]
    assert find_shards(paths, Columns()) == find_shards(paths[::-1], Columns())


def test_where_the_pool_lies_does_not_determine_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n")
    fsspec.filesystem("memory").pipe("/find/a.csv", b"text\n")
    (local,) = find_shards([str(tmp_path)], Columns())
    (remote,) = find_shards(["memory://find"], Columns())
    assert local.identity() == remote.identity()
    assert remote.url == "memory:///find/a.csv"


def test_an_unreadable_footer_does_not_stop_the_search(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "good.parquet")
    assert [shard.groups for shard in find_shards([str(tmp_path)], Columns())] == [None, (1,)]


def test_a_missing_column_names_the_shard(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"body": ["a"], "n": [1]}), tmp_path / "b.parquet")
    with pytest.raises(PoolError, match=r"b\.parquet: no text column.*has: body, n;.*--text-col"):
        find_shards([str(tmp_path)], Columns())


def test_an_empty_pool_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_bytes(b"")
    with pytest.raises(PoolError, match="the pool is empty"):
        find_shards([str(tmp_path)], Columns())


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PoolError, match=r"nope\.csv: no such file"):
        find_shards([str(tmp_path / "nope.csv")], Columns())


def test_a_broken_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").symlink_to(tmp_path / "nope.csv")
    with pytest.raises(PoolError, match=r"a\.csv: no such file"):
        find_shards([str(tmp_path)], Columns())
