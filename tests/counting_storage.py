"""counted://, an object store that notes every request: what a bucket would bill."""

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

Range = tuple[str, int, int]
"""Path, first byte, and the byte after the last."""


class Periodic(Sequence[int]):
    """Content that repeats itself, of any size: only what is asked for is made."""

    def __init__(self, period: bytes, size: int) -> None:
        self._period, self._size = period, size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, places: Any) -> bytes:
        start, stop, _ = places.indices(self._size)
        first = start % len(self._period)
        length = max(0, stop - start)
        return (self._period * (-(-(first + length) // len(self._period))))[first : first + length]


class CountedFile(AbstractBufferedFile):
    """A file opened for reading, with the read-ahead that fsspec gives any object store."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        return bytes(self.fs.get_range(self.path, start, end))


class CountedFileSystem(AbstractFileSystem):
    """Objects in memory; as for a bucket, a range is one request and so is asking for a size.

    `objects` are contents by path, `gets` the ranges that were read and how often, `heads` how
    often which object's size was asked for. Writing is not counted.
    """

    protocol = "counted"
    objects: ClassVar[dict[str, bytes | Periodic]] = {}
    gets: ClassVar[Counter[Range]] = Counter()
    heads: ClassVar[Counter[str]] = Counter()
    _lock = threading.Lock()

    @classmethod
    def forget(cls) -> None:
        """Have nothing stored and nothing counted."""
        cls.objects.clear()
        cls.count_anew()

    @classmethod
    def count_anew(cls) -> None:
        """Have nothing counted."""
        cls.gets.clear()
        cls.heads.clear()

    @classmethod
    def requests(cls) -> int:
        """Return how many requests were made to read."""
        return cls.gets.total() + cls.heads.total()

    @classmethod
    def nbytes(cls) -> int:
        """Return how many bytes were read."""
        return sum(times * (stop - start) for (_, start, stop), times in cls.gets.items())

    def get_range(self, path: str, start: int, stop: int) -> bytes:
        """Answer a request for some of an object's bytes."""
        content = self._object(path)[start:stop]
        with self._lock:
            self.gets[path, start, start + len(content)] += 1
        return content

    def cat_file(self, path: str, start: Any = None, end: Any = None, **_: Any) -> bytes:
        """As drivers of object stores have it: one request, whatever the range."""
        path = self._strip_protocol(path)
        return self.get_range(path, start or 0, len(self._object(path)) if end is None else end)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        with self._lock:
            self.heads[path] += 1
        return {"name": path, "size": len(self._object(path)), "type": "file"}

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        folder = self._strip_protocol(path).rstrip("/") + "/"
        found = [name for name in self.objects if name.startswith(folder)]
        return [self.info(name) for name in found] if detail else found

    def put_file(self, lpath: str, rpath: str, **_: Any) -> None:
        self.objects[self._strip_protocol(rpath)] = Path(lpath).read_bytes()

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Do nothing: buckets have no folders."""

    def _open(self, path: str, mode: str = "rb", **options: Any) -> CountedFile:
        return CountedFile(self, path, mode, **options)

    def _object(self, path: str) -> bytes | Periodic:
        if path not in self.objects:
            raise FileNotFoundError(path)
        return self.objects[path]


fsspec.register_implementation("counted", CountedFileSystem)
