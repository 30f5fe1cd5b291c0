"""Bytes of a shard: opened, decompressed, cut into lines; damage ends a stream, it never throws."""

import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

import zstandard

from clipcurate.errors import StorageError, UnreadableInputError
from clipcurate.pools.shards import Shard
from clipcurate.storage import open_read

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BUFFER = 1 << 20
CHUNK = 1 << 13  # compressed bytes at a time: what a hostile file can inflate to stays bounded
MAX_RECORD = 1 << 28  # bytes of one record; a longer one means that the file is something else


class _Source(io.RawIOBase):
    """A file whose own failures are StorageError: an OSError from a decoder then means bad data."""

    def __init__(self, file: BinaryIO, url: str) -> None:
        self._file, self._url = file, url

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        with _as_storage_error(self._url):
            data = self._file.read(len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        with _as_storage_error(self._url):
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


@contextmanager
def _as_storage_error(url: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{url}: cannot be read ({error}); try again later") from error


@contextmanager
def open_source(url: str) -> Iterator[io.BufferedReader]:
    """Open the raw bytes at `url`, seekable. Raises NotFoundError, StorageError."""
    with ExitStack() as stack:
        with _as_storage_error(url):
            file = stack.enter_context(open_read(url))
        yield io.BufferedReader(_Source(file, url), BUFFER)


@dataclass
class Stream:
    """A shard's decompressed bytes.

    Attributes:
        file: the bytes; they end early where the compressed data is damaged.
        damage: why they ended early; "" while nothing is wrong. Final once `file` is at its end.
    """

    file: BinaryIO
    damage: str = ""


@contextmanager
def open_stream(shard: Shard) -> Iterator[Stream]:
    """Open a shard's decompressed bytes.

    Raises:
        UnreadableInputError: while reading, if the file is not of its compression at all.
    """
    with open_source(shard.url) as source:
        stream = Stream(source)
        if shard.compression:
            raw = _Inflated(_inflate(source, shard, stream))
            stream.file = io.BufferedReader(raw, BUFFER)
        yield stream


def lines(stream: Stream, where: str) -> Iterator[bytes]:
    """Yield the lines with their newlines, without a byte order mark.

    Raises:
        UnreadableInputError: a line is longer than MAX_RECORD.
    """
    number = 0
    while line := stream.file.readline(MAX_RECORD + 1):
        if len(line) > MAX_RECORD:
            raise UnreadableInputError(
                f"{where}: line {number + 1} is longer than {MAX_RECORD} bytes; "
                "is the file what its extension says?"
            )
        yield line if number else line.removeprefix(b"\xef\xbb\xbf")
        number += 1


class _Inflated(io.RawIOBase):
    """Chunks of bytes as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        view = memoryview(buffer).cast("B")
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class _Decoder(Protocol):
    """What zlib and zstandard decompression objects share: one frame, fed in pieces."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


_DECODERS: dict[str, Callable[[], _Decoder]] = {
    "gz": lambda: zlib.decompressobj(wbits=31),
    "zst": lambda: zstandard.ZstdDecompressor().decompressobj(),
}
_GZIP = type(zlib.decompressobj())
_ERRORS = (zlib.error, zstandard.ZstdError)


def _inflate(source: BinaryIO, shard: Shard, stream: Stream) -> Iterator[bytes]:
    produced = False
    try:
        for chunk in _frames(source, _DECODERS[shard.compression]):
            produced = produced or bool(chunk)
            yield chunk
    except _ERRORS as error:
        if not produced:
            raise UnreadableInputError(
                f"{shard.name}: is not a readable {shard.compression} file ({error}); "
                "restore it or rename it to what it is"
            ) from error
        stream.damage = str(error)
    except EOFError as error:
        stream.damage = str(error)


def _frames(source: BinaryIO, new_decoder: Callable[[], _Decoder]) -> Iterator[bytes]:
    """Decode all frames; raises _ERRORS where the data is wrong and EOFError where it stops."""
    decoder = new_decoder()
    while data := source.read(CHUNK):
        while data:
            if decoder.eof:
                data = data.lstrip(b"\0")  # gzip allows zero padding after a member
                if not data:
                    break
                decoder = new_decoder()
            yield from _decode(decoder, data)
            data = decoder.unused_data
    if not decoder.eof:
        raise EOFError("the compressed data ends too early")


def _decode(decoder: _Decoder, data: bytes) -> Iterator[bytes]:
    """Feed `data`; where zlib refuses it, again byte by byte, to keep all before the damage."""
    spare = decoder.copy() if isinstance(decoder, _GZIP) else decoder
    try:
        decoded = decoder.decompress(data)
    except zlib.error:
        decoded = b""
        for position in range(len(data)):
            yield spare.decompress(data[position : position + 1])
    yield decoded
