"""Files at fsspec URLs: local paths, s3://, gs://, memory://.

A finished object appears all at once. What workers make under leases is published under a name that
contains its content hash, so one that lost its lease can neither overwrite nor half-write what a
reader sees. Only files whose names users know (a manifest, say) have fixed names.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
import fsspec.core
from fsspec.implementations.local import LocalFileSystem

from clipcurate.errors import InvalidInputError, NotFoundError, StorageError
from clipcurate.hashing import CHUNK, hash_bytes, hash_file, hash_stream


@dataclass(frozen=True)
class StoredObject:
    """One finished object: `name` relative to its folder, `size` in bytes, `hash` of its bytes."""

    name: str
    size: int
    hash: str


def filesystem(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of `url` and the path inside it."""
    fs, path = fsspec.core.url_to_fs(url)
    return fs, str(path)


def locate(url: str) -> tuple[Any, str]:
    """As `filesystem`, for URLs that users give.

    Raises:
        InvalidInputError: a scheme that nobody knows, or whose driver is not installed.
    """
    try:
        return filesystem(url)
    except (ValueError, ImportError) as error:
        raise InvalidInputError(f"{url}: {error}; is the URL right?") from error


def is_local(url: str) -> bool:
    """Say whether `url` names a file of this machine. Raises InvalidInputError."""
    return isinstance(locate(url)[0], LocalFileSystem)


def join(url: str, *names: str) -> str:
    """Append path segments to a URL."""
    return "/".join([url.rstrip("/"), *names])


def exists(url: str) -> bool:
    """Say whether an object exists at `url`. Raises InvalidInputError."""
    fs, path = locate(url)
    return bool(fs.exists(path))


@contextlib.contextmanager
def open_read(url: str) -> Iterator[BinaryIO]:
    """Open `url` for reading bytes.

    Raises:
        NotFoundError: there is no such object.
        StorageError: it is a folder, or the storage refuses to read it.
        InvalidInputError: a scheme that nobody knows.
    """
    fs, path = locate(url)
    with _reading(url):
        file = fs.open(path, "rb")
    with file:
        yield cast(BinaryIO, file)


@contextlib.contextmanager
def _reading(url: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"{url}: no such file") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(f"{url}: cannot read ({reason}); check the path and access") from error


def read_bytes(url: str) -> bytes:
    """Return all bytes of the object at `url`. Raises NotFoundError."""
    with open_read(url) as file:
        return file.read()


def read_range(url: str, start: int, length: int) -> bytes:
    """Return some of the object's bytes; fewer where it ends before. Raises as `open_read`."""
    fs, path = locate(url)
    with _reading(url):
        return bytes(fs.cat_file(path, start=start, end=start + length))


def read_object(url: str, digest: str) -> bytes:
    """Return all bytes of a finished object, checked against its hash.

    Raises:
        NotFoundError: there is no such object.
        StorageError: its bytes are not what was written.
    """
    content = read_bytes(url)
    _require_hash(url, hash_bytes(content), digest)
    return content


def check_object(url: str, digest: str) -> None:
    """Read a finished object to its end, whatever its size, and check its hash.

    Raises as `read_object`.
    """
    with open_read(url) as file, _reading(url):
        found = hash_stream(file)
    _require_hash(url, found, digest)


def _require_hash(url: str, found: str, digest: str) -> None:
    if found != digest:
        raise StorageError(f"{url}: its bytes do not have the recorded hash {digest}; restore it")


def fetch(url: str, path: Path) -> None:
    """Copy an object to a local file, which appears all at once.

    Raises:
        NotFoundError: there is no such object.
        StorageError: it cannot be read, or the local file not be written.
    """
    folder = str(path.parent)
    with open_read(url) as source, staged(folder, path.name) as directory:
        with writing(str(path)), (directory / path.name).open("wb") as target:
            shutil.copyfileobj(source, target, CHUNK)
        place(directory / path.name, str(path))


@contextlib.contextmanager
def staged(folder: str, token: str) -> Iterator[Path]:
    """Yield a private local directory for files that `publish` will move into `folder`.

    Beside the target where that is local (so that publishing is one atomic rename), else in the
    temporary directory. Its name contains `token`, the lease under which it is written.
    """
    parent: str | None = None
    if is_local(folder):
        parent = filesystem(folder)[1]
        with writing(folder):
            Path(parent).mkdir(parents=True, exist_ok=True)
    with writing(folder):
        path = Path(tempfile.mkdtemp(prefix=f".tmp-{token}-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def stored_name(stem: str, digest: str, suffix: str) -> str:
    """Return the name under which an object of this hash is published."""
    return f"{stem}-{digest[:16]}{suffix}"


def publish(staged_file: Path, folder: str, stem: str, suffix: str) -> StoredObject:
    """Move a finished local file to `folder/{stem}-{hash}{suffix}` and return what it is.

    Publishing the same bytes twice is harmless. Raises StorageError (no space, no permission).
    """
    digest = hash_file(staged_file)
    name = stored_name(stem, digest, suffix)
    size = staged_file.stat().st_size
    place(staged_file, join(folder, name))
    return StoredObject(name=name, size=size, hash=digest)


def publish_bytes(content: bytes, folder: str, stem: str, suffix: str) -> StoredObject:
    """As `publish`, for a small object in memory."""
    digest = hash_bytes(content)
    name = stored_name(stem, digest, suffix)
    write_bytes(join(folder, name), content)
    return StoredObject(name=name, size=len(content), hash=digest)


def write_bytes(url: str, content: bytes) -> None:
    """Write a small object at exactly `url`; readers see the old bytes or the new, no mixture."""
    folder, _, name = url.rpartition("/")
    with staged(folder, name) as directory:
        path = directory / name
        with writing(url):
            path.write_bytes(content)
        place(path, url)


@contextlib.contextmanager
def writing(target: str) -> Iterator[None]:
    """Turn an operating-system error while writing `target` into a StorageError that names it."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"{target}: cannot write ({reason}); free space or fix permissions, then resume"
        ) from error


def place(path: Path, url: str) -> None:
    """Move a finished, staged file to exactly `url`; readers see all of it or nothing.

    Raises StorageError (no space, no permission).
    """
    fs, target = filesystem(url)
    with writing(url):
        if isinstance(fs, LocalFileSystem):
            _sync(path)
            path.replace(target)
            _sync(Path(target).parent)
        else:
            fs.put_file(str(path), target)


def _sync(path: Path) -> None:
    """Force a file or directory to disk: a rename alone may outlive its content after a crash."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
