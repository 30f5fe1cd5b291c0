import json

import pytest

from clipcurate.pools.shards import Shard, format_of, stem_of


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.parquet", ("parquet", "")),
        ("b.snappy.PARQUET", ("parquet", "")),
        ("b.parq", ("parquet", "")),
        ("b.jsonl", ("jsonl", "")),
        ("b.ndjson.gz", ("jsonl", "gz")),
        ("b.json.zst", ("jsonl", "zst")),
        ("b.csv.gz", ("csv", "gz")),
        ("b.tsv", ("tsv", "")),
        ("b.tar", ("webdataset", "")),
        ("b.tar.gz", ("webdataset", "gz")),
        ("b.tgz", ("webdataset", "gz")),
        ("b.parquet.gz", None),
        ("b.gz", None),
        ("b.txt", None),
        ("README", None),
    ],
)
def test_format_follows_the_extension(name: str, expected: tuple[str, str] | None) -> None:
    assert format_of(name) == expected


def test_a_stem_loses_only_known_extensions() -> None:
    assert stem_of("a/0.5_x.tar") == "a/0.5_x"
    assert stem_of("a/x.json.gz") == "a/x"


@pytest.mark.parametrize("groups", [None, (), (3, 4)])
def test_json_holds_the_whole_shard(groups: tuple[int, ...] | None) -> None:
    shard = Shard("n", "/u/n", "parquet", "", 7, "xxh3:00", "2024", groups)
    assert Shard.from_json(json.loads(json.dumps(shard.to_json()))) == shard


def test_identity_leaves_out_where_and_when() -> None:
    shard = Shard("n", "/u/n", "csv", "gz", 7, "xxh3:00", "2024", None)
    assert shard.identity() == {"name": "n", "size": 7, "pin": "xxh3:00"}


@pytest.mark.parametrize(
    ("form", "size", "groups", "rows"),
    [
        ("parquet", 9, (3, 4), 7),
        ("parquet", 9, None, None),
        ("parquet", 0, None, None),
        ("jsonl", 9, None, None),
        ("jsonl", 0, None, 0),
        ("webdataset", 0, None, None),
    ],
)
def test_known_rows(form, size, groups, rows) -> None:  # type: ignore[no-untyped-def]
    assert Shard("n", "/n", form, "", size, "p", "", groups).known_rows() == rows
