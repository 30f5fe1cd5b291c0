import logging
import os
from pathlib import Path

import pyarrow as pa
import pytest

from clipcurate.errors import StorageError
from clipcurate.matching import Matcher, tables_key
from clipcurate.metadata import Metadata
from services.matcher.tables import TableStore

METADATA = Metadata(("cat", "a cat", "猫"))
WHICH = (METADATA.fingerprint, "metaclip1", "token-trie")
KEY = tables_key(*WHICH)


def never() -> Metadata:
    raise AssertionError("the tables are there")


def works(matcher: Matcher) -> bool:
    return matcher.match(pa.array(["a cat", "猫"])).entry_ids.tolist() == [0, 1, 2]


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    return TableStore(tmp_path / "local")


def test_tables_are_built_once_and_mapped_where_they_lie(store: TableStore, tmp_path: Path) -> None:
    folder = str(tmp_path / "tables")
    assert works(store.matcher(folder, *WHICH, lambda: METADATA))
    assert [path.name for path in (tmp_path / "tables").iterdir()] == [KEY]
    assert works(store.matcher(folder, *WHICH, never))
    assert works(TableStore(tmp_path / "other").matcher(folder, *WHICH, never))
    assert not (tmp_path / "local").exists()


def test_tables_in_remote_storage_are_fetched_once(store: TableStore, tmp_path: Path) -> None:
    folder = f"memory://{tmp_path.name}/tables"
    assert works(store.matcher(folder, *WHICH, lambda: METADATA))
    assert works(store.matcher(folder, *WHICH, never))
    assert [path.name for path in (tmp_path / "local").iterdir()] == [KEY]
    (tmp_path / "local" / KEY).unlink()
    assert works(store.matcher(folder, *WHICH, never))


def test_without_a_run_tables_lie_in_the_local_folder(store: TableStore, tmp_path: Path) -> None:
    assert works(store.matcher("", *WHICH, lambda: METADATA))
    assert works(store.matcher("", *WHICH, never))
    assert [path.name for path in (tmp_path / "local").iterdir()] == [KEY]
    assert (tmp_path / "local").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"", b"nonsense", None], ids=["empty", "nonsense", "cut"])
@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_broken_tables_are_replaced(
    store: TableStore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    content: bytes | None,
    scheme: str,
) -> None:
    folder = scheme + (tmp_path.name if scheme else str(tmp_path)) + "/tables"
    for read in (lambda: METADATA, never):
        store.matcher(folder, *WHICH, read)
    path = tmp_path / ("local" if scheme else "tables") / KEY
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with caplog.at_level(logging.WARNING):
        assert works(store.matcher(folder, *WHICH, lambda: METADATA))
    assert "of no use" in caplog.text
    assert works(store.matcher(folder, *WHICH, never))


def test_another_users_folder_is_refused(
    store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(StorageError, match=r"another user.*TABLES_FOLDER"):
        store.matcher("", *WHICH, lambda: METADATA)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot write"):
        TableStore(tmp_path / "file" / "tables").matcher("", *WHICH, lambda: METADATA)
