"""What a file was when the pool was planned, and whether it still is."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xxhash

from clipcurate.errors import InputChangedError, NotFoundError, PoolError, StorageError
from clipcurate.pools.shards import Shard
from clipcurate.pools.streams import BUFFER, open_source
from clipcurate.storage import filesystem, is_local

# What fsspec's file systems call the time of last change; memory:// has only `created`.
_TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")
_ETAGS = ("ETag", "etag", "e_tag")


@dataclass(frozen=True)
class Facts:
    """What the file system says about a file: cheap to ask for, cheap to compare."""

    size: int
    modified: str
    etag: str


def facts(url: str, info: dict[str, Any]) -> Facts:
    """Return the facts about the file at `url`, given its file system's `info`.

    Raises:
        NotFoundError: it is gone.
        PoolError: it is no regular file, or the server does not tell its size.
    """
    if is_local(url):
        with _explained(url):
            return _local_facts(url)
    if info.get("size") is None:
        raise PoolError(f"{url}: the server does not tell the file's size; copy the file first")
    etag = next((str(info[name]) for name in _ETAGS if info.get(name)), "")
    time = next((info[name] for name in _TIMES if info.get(name)), "")
    return Facts(int(info["size"]), _iso(time), etag.strip('"'))


def compute_pin(url: str, known: Facts) -> str:
    """Return what pins the content: the ETag where there is one, else a hash of all bytes."""
    if known.etag:
        return f"etag:{known.etag}"
    state = xxhash.xxh3_128()
    with open_source(url) as file:
        while chunk := file.read(BUFFER):
            state.update(chunk)
    return f"xxh3:{state.hexdigest()}"


def verify(shard: Shard) -> None:
    """Check that the shard is still the file that was planned.

    Raises:
        InputChangedError: it is gone, or its size or pin differs.
    """
    now = _current(shard)
    if now.size != shard.size:
        raise InputChangedError(_changed(shard, f"size {now.size} instead of {shard.size}"))
    if not now.etag and now.modified and now.modified == shard.modified:
        return
    pin = compute_pin(shard.url, now)
    if pin != shard.pin:
        raise InputChangedError(_changed(shard, f"{pin} instead of {shard.pin}"))


def _current(shard: Shard) -> Facts:
    fs, path = filesystem(shard.url)
    fs.invalidate_cache(path)
    try:
        with _explained(shard.url):
            info = fs.info(path)
        return facts(shard.url, info)
    except NotFoundError as error:
        raise InputChangedError(_changed(shard, "it is gone")) from error


@contextmanager
def _explained(url: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"{url}: no such file, or a broken link") from error
    except OSError as error:
        raise StorageError(f"{url}: cannot be looked at ({error}); check access") from error


def _changed(shard: Shard, what: str) -> str:
    return (
        f"{shard.name}: changed since the run was planned ({what}); "
        "restore the file or start a new run"
    )


def _local_facts(path: str) -> Facts:
    found = Path(path).stat()
    if not stat.S_ISREG(found.st_mode):
        raise PoolError(f"{path}: is not a regular file; leave it out of the pool")
    return Facts(found.st_size, _iso(found.st_mtime), "")


def _iso(time: Any) -> str:
    if isinstance(time, int | float):
        return datetime.fromtimestamp(time, UTC).isoformat(timespec="microseconds")
    return time.isoformat() if isinstance(time, datetime) else str(time)
