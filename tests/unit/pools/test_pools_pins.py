import os
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from clipcurate.errors import InputChangedError, PoolError, StorageError
from clipcurate.hashing import hash_bytes
from clipcurate.pools import Columns, Shard, find_shards
from clipcurate.pools.pins import compute_pin, facts, verify


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": 1}\n')
    return path


@pytest.fixture
def shard(path: Path) -> Shard:
    return find_shards([str(path)], Columns())[0]


def test_a_local_file_is_pinned_by_its_hash(path: Path, shard: Shard) -> None:
    assert shard.pin == f"xxh3:{hash_bytes(path.read_bytes())}"
    assert shard.size == 12
    assert shard.modified.endswith("+00:00")


def test_an_etag_is_the_pin_where_there_is_one() -> None:
    known = facts("memory://a", {"size": 3, "ETag": '"abc-1"', "LastModified": "yesterday"})
    assert compute_pin("memory://a", known) == "etag:abc-1"
    assert known.modified == "yesterday"


def test_an_unchanged_file_passes(shard: Shard) -> None:
    verify(shard)


def test_a_touched_file_passes_by_its_content(path: Path, shard: Shard) -> None:
    os.utime(path, (1, 1))
    verify(shard)


def test_other_content_of_the_same_size_is_noticed(path: Path, shard: Shard) -> None:
    path.write_bytes(b'{"text": 2}\n')
    os.utime(path, (1, 1))
    with pytest.raises(InputChangedError, match=r"a\.jsonl: changed .*xxh3.*new run"):
        verify(shard)


def test_another_size_is_noticed(path: Path, shard: Shard) -> None:
    path.write_bytes(b"")
    with pytest.raises(InputChangedError, match="size 0 instead of 12"):
        verify(shard)


def test_a_missing_file_is_noticed(path: Path, shard: Shard) -> None:
    path.unlink()
    with pytest.raises(InputChangedError, match="it is gone"):
        verify(shard)


def test_the_target_of_a_symbolic_link_is_what_counts(path: Path) -> None:
    link = path.with_name("link.jsonl")
    link.symlink_to(path)
    (shard,) = find_shards([str(link)], Columns())
    path.write_bytes(b'{"text": 2}\n')
    os.utime(path, (1, 1))
    with pytest.raises(InputChangedError):
        verify(shard)


def test_a_file_in_memory_is_pinned_and_checked() -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe("/pins/a.jsonl", b"1\n")
    (shard,) = find_shards(["memory://pins/a.jsonl"], Columns())
    verify(shard)
    fs.pipe("/pins/a.jsonl", b"2\n")
    with pytest.raises(InputChangedError):
        verify(shard)


def test_a_file_system_without_times_is_hashed_again(shard: Shard, path: Path) -> None:
    verify(replace(shard, modified=""))


def test_only_regular_files_can_be_pinned(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(PoolError, match=r"pipe\.csv: is not a regular file"):
        find_shards([str(tmp_path)], Columns())


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(PoolError, match="does not tell the file's size"):
        facts("memory://a", {"size": None})


def test_a_storage_that_refuses_is_no_change(shard: Shard, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(LocalFileSystem, "info", refuse)
    with pytest.raises(StorageError, match=r"a\.jsonl: cannot be looked at .*check access"):
        verify(shard)
