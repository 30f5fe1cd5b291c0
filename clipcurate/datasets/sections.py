"""Files of numbered sections, each of which is read and checked without the others.

First an entry per section, of four little-endian uint64: where the section begins in the file, its
length, its xxh3-64, and the xxh3-64 of these 24 bytes. Then the sections.
"""

import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import xxhash

from clipcurate.errors import StorageError
from clipcurate.storage import read_range

READERS = 8
"""Sections read at a time: reading from object storage waits more than it computes."""

_FIELDS = struct.Struct("<QQQ")
_ENTRY = struct.Struct("<QQQQ")


def pack(sections: Sequence[bytes]) -> bytes:
    """Return a file of these sections."""
    ends = np.cumsum([_ENTRY.size * len(sections), *map(len, sections)]).tolist()
    entries = [_entry(start, section) for start, section in zip(ends, sections, strict=False)]
    return b"".join([*entries, *sections])


def _entry(start: int, section: bytes) -> bytes:
    fields = (start, len(section), xxhash.xxh3_64_intdigest(section))
    return _ENTRY.pack(*fields, xxhash.xxh3_64_intdigest(_FIELDS.pack(*fields)))


def read_section(url: str, number: int) -> bytes:
    """Return one section of a stored file.

    Raises:
        NotFoundError: there is no such object.
        StorageError: its bytes are not what was written.
    """
    entry = read_range(url, number * _ENTRY.size, _ENTRY.size)
    if len(entry) == _ENTRY.size:
        start, length, _, check = _ENTRY.unpack(entry)
        if xxhash.xxh3_64_intdigest(entry[: _FIELDS.size]) == check:
            section = read_range(url, start, length) if length else b""
            if entry == _entry(start, section):
                return section
    raise StorageError(f"{url}: section {number} is not what was written; restore the file")


def read_of_each(urls: Sequence[str | None], number: int) -> Iterator[bytes]:
    """Yield the same section of each file in order, some files ahead; nothing where there is none.

    Raises as `read_section`.
    """
    with ThreadPoolExecutor(READERS) as threads:
        for first in range(0, len(urls), READERS):
            some = urls[first : first + READERS]
            yield from threads.map(lambda url: read_section(url, number) if url else b"", some)
