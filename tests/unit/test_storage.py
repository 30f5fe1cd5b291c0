import uuid
from pathlib import Path

import pytest

from clipcurate import storage
from clipcurate.errors import InvalidInputError, NotFoundError, StorageError
from clipcurate.hashing import hash_bytes


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder in each kind of storage; memory:// stands for object stores."""
    return str(tmp_path / "out") if request.param == "local" else f"memory://{uuid.uuid4().hex}"


def test_ranges(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")
    assert storage.read_range(str(path), 2, 3) == b"234"
    assert storage.read_range(str(path), 8, 30) == b"89"
    assert storage.read_range(str(path), 30, 3) == b""
    with pytest.raises(NotFoundError, match="no such file"):
        storage.read_range(str(tmp_path / "g"), 0, 1)


def test_published_bytes_are_named_by_their_hash_and_read_back(folder: str) -> None:
    stored = storage.publish_bytes(b"content", folder, "stem", ".bin")
    digest = hash_bytes(b"content")
    assert stored == storage.StoredObject(f"stem-{digest[:16]}.bin", 7, digest)
    assert storage.read_object(storage.join(folder, stored.name), digest) == b"content"


def test_publishing_the_same_twice_is_harmless(folder: str) -> None:
    first = storage.publish_bytes(b"content", folder, "stem", ".bin")
    assert storage.publish_bytes(b"content", folder, "stem", ".bin") == first
    assert storage.publish_bytes(b"other", folder, "stem", ".bin").name != first.name


def test_a_staged_file_is_moved_whole(folder: str) -> None:
    with storage.staged(folder, "token") as directory:
        path = directory / "work"
        path.write_bytes(b"rows")
        assert "token" in directory.name
        stored = storage.publish(path, folder, "part", ".parquet")
    assert storage.read_object(storage.join(folder, stored.name), stored.hash) == b"rows"
    assert not directory.exists()


def test_an_abandoned_stage_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), storage.staged(str(tmp_path), "token") as directory:
        (directory / "half").write_bytes(b"half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_object_is_fetched_whole(folder: str, tmp_path: Path) -> None:
    url, path = storage.join(folder, "object"), tmp_path / "cache" / "object"
    with pytest.raises(NotFoundError):
        storage.fetch(url, path)
    for content in (b"first", b"second"):
        storage.write_bytes(url, content)
        storage.fetch(url, path)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_staged_file_can_have_a_name_of_its_own(folder: str) -> None:
    for content in (b"first", b"second"):
        with storage.staged(folder, "token") as directory:
            (directory / "work").write_bytes(content)
            storage.place(directory / "work", storage.join(folder, "object"))
        assert storage.read_bytes(storage.join(folder, "object")) == content


def test_writing_again_replaces(folder: str) -> None:
    url = storage.join(folder, "state.json")
    assert not storage.exists(url)
    for content in (b"first", b"second"):
        storage.write_bytes(url, content)
        assert storage.exists(url)
        assert storage.read_bytes(url) == content


def test_nothing_but_the_object_is_left(tmp_path: Path) -> None:
    storage.write_bytes(str(tmp_path / "a"), b"a")
    storage.publish_bytes(b"b", str(tmp_path), "b", "")
    assert len(list(tmp_path.iterdir())) == 2


def test_changed_bytes_are_noticed(folder: str) -> None:
    stored = storage.publish_bytes(b"content", folder, "stem", ".bin")
    url = storage.join(folder, stored.name)
    storage.write_bytes(url, b"c0ntent")
    with pytest.raises(StorageError, match=stored.hash):
        storage.read_object(url, stored.hash)


def test_what_is_missing_is_named(folder: str) -> None:
    url = storage.join(folder, "missing")
    for read in (storage.read_bytes, lambda u: storage.read_object(u, "0" * 32)):
        with pytest.raises(NotFoundError, match="missing"):
            read(url)


def test_below_a_file_nothing_can_be_written_or_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    below = str(tmp_path / "file" / "below")
    with pytest.raises(StorageError, match=r"below.*cannot write"):
        storage.write_bytes(f"{below}/name", b"x")
    with pytest.raises(StorageError, match="below"):
        storage.publish_bytes(b"x", below, "stem", "")
    with pytest.raises(NotFoundError):
        storage.read_bytes(below)
    assert not storage.exists(below)


def test_an_object_cannot_replace_a_folder(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    with pytest.raises(StorageError, match="Is a directory"):
        storage.write_bytes(str(tmp_path / "name"), b"x")


def test_a_folder_cannot_be_read_as_an_object(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="Is a directory"):
        storage.read_bytes(str(tmp_path))


def test_the_kernels_own_folders_refuse_files() -> None:
    with pytest.raises(StorageError, match="/proc"):
        storage.write_bytes("/proc/clipcurate/name", b"x")


def test_a_full_disk_is_a_storage_error() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(StorageError, match=r"out: cannot write \(No space left"):
        with storage.writing("out"), full.open("wb", buffering=0) as file:
            file.write(b"x")


@pytest.mark.parametrize("call", [storage.read_bytes, storage.exists, storage.is_local])
def test_an_unknown_scheme_is_refused(call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InvalidInputError, match="nope://bucket/name"):
        call("nope://bucket/name")


def test_locality() -> None:
    assert storage.is_local("/a")
    assert storage.is_local("file:///a")
    assert not storage.is_local("memory://a")


def test_join_knows_trailing_slashes() -> None:
    assert storage.join("s3://bucket/", "a", "b") == "s3://bucket/a/b"
    assert storage.join("/", "a") == "/a"


def test_an_object_is_checked_to_its_last_byte(tmp_path: Path) -> None:
    url, content = str(tmp_path / "name"), b"x" * (3 << 20)
    storage.write_bytes(url, content)
    storage.check_object(url, hash_bytes(content))
    storage.write_bytes(url, content[:-1] + b"y")
    with pytest.raises(StorageError, match="name: its bytes do not have the recorded hash"):
        storage.check_object(url, hash_bytes(content))
    with pytest.raises(NotFoundError, match="no such file"):
        storage.check_object(url + "s", hash_bytes(content))
