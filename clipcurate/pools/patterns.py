"""From what the user typed (files, directories, globs, URLs) to the files that are meant."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from clipcurate.errors import PoolError, StorageError
from clipcurate.pools.shards import KNOWN, format_of, stem_of
from clipcurate.storage import filesystem, is_local


@dataclass(frozen=True)
class File:
    """A file of a known format: its full URL and what its file system says about it."""

    url: str
    info: dict[str, Any]


def expand(patterns: Sequence[str]) -> list[File]:
    """Return the files that `patterns` mean, each once, sorted by URL.

    A directory means all files of a known format below it, except hidden ones (a name that starts
    with "." or "_") and those that only describe a shard beside them: `.json` files where other
    formats exist, and a parquet file with the same stem as a tar (img2dataset writes both).

    Raises:
        PoolError: a pattern matches nothing, or names a file of an unknown format.
    """
    found: dict[str, File] = {}
    for pattern in patterns:
        found.update((file.url, file) for file in _expand_one(pattern))
    return [found[url] for url in sorted(found)]


def relative_names(urls: Sequence[str]) -> list[str]:
    """Return each URL relative to the deepest directory that holds them all."""
    folders = [url.split("/")[:-1] for url in urls]
    shared = 0
    for parts in zip(*folders, strict=False):
        if len(set(parts)) > 1:
            break
        shared += 1
    return ["/".join(url.split("/")[shared:]) for url in urls]


def _expand_one(pattern: str) -> list[File]:
    fs, path = _file_system(pattern)
    with _explained(pattern):
        fs.invalidate_cache()  # a long-lived process must see new files
        info = _info(fs, path)
        if info is None:
            files = _glob(fs, path)
        elif info["type"] == "directory":
            files = _below(fs, path)
        elif format_of(path) is None:
            raise PoolError(f"{pattern}: unknown format; known extensions: {KNOWN}")
        else:
            files = [_file(fs, path, info)]
    if not files:
        raise PoolError(_nothing(pattern, info is not None or _is_glob(path)))
    return files


def _file_system(pattern: str) -> tuple[Any, str]:
    if "::" in pattern:
        raise PoolError(f"{pattern}: chained URLs cannot be pinned; name the inner file itself")
    try:
        return filesystem(pattern)
    except (ValueError, ImportError) as error:
        raise PoolError(f"{pattern}: {error}; is the URL right?") from error


@contextmanager
def _explained(pattern: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{pattern}: cannot be listed ({error}); check access and try again"
        ) from error


def _info(fs: Any, path: str) -> dict[str, Any] | None:
    try:
        return dict(fs.info(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _nothing(pattern: str, searched: bool) -> str:
    if searched:
        return f"{pattern}: no file of a known format here; known extensions: {KNOWN}"
    return f"{pattern}: no such file or directory; check the path"


def _is_glob(path: str) -> bool:
    return any(mark in path for mark in "*?[")


def _glob(fs: Any, path: str) -> list[File]:
    if not _is_glob(path):
        return []
    files: list[File] = []
    for name, info in fs.glob(path, detail=True).items():
        if info["type"] == "directory":
            files += _below(fs, name)
        elif format_of(name):
            files.append(_file(fs, name, info))
    return files


def _below(fs: Any, folder: str) -> list[File]:
    listing = fs.find(folder, detail=True)
    depth = len(PurePosixPath(folder).parts)
    names = [
        name
        for name in listing
        if format_of(name)
        and not any(part[0] in "._" for part in PurePosixPath(name).parts[depth:])
    ]
    return [_file(fs, name, listing[name]) for name in _without_descriptions(names)]


def _without_descriptions(names: list[str]) -> list[str]:
    tars = {stem_of(name) for name in names if format_of(name) == ("webdataset", "")}
    shards = [
        name
        for name in names
        if ".json" not in PurePosixPath(name.lower()).suffixes
        and not (format_of(name) == ("parquet", "") and stem_of(name) in tars)
    ]
    return shards or names


def _file(fs: Any, path: str, info: dict[str, Any]) -> File:
    url = str(fs.unstrip_protocol(path))
    return File(_local_path(path) if is_local(url) else url, dict(info))


def _local_path(path: str) -> str:
    """Return a path without "..", so that one file has one name."""
    where = Path(path)
    return str(where.parent.resolve() / where.name) if ".." in where.parts else path
