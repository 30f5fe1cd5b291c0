import gzip
import io
import zlib
from pathlib import Path

import pytest
import zstandard

from clipcurate.errors import NotFoundError, StorageError, UnreadableInputError
from clipcurate.pools import Columns, find_shards, streams
from clipcurate.pools.streams import lines, open_source, open_stream

TEXT = b"".join(b"line %d of some text\n" % i for i in range(20_000))
COMPRESS = {"gz": gzip.compress, "zst": zstandard.ZstdCompressor().compress}


def content(path: Path, data: bytes) -> tuple[bytes, str]:
    path.write_bytes(data)
    (shard,) = find_shards([str(path)], Columns())
    with open_stream(shard) as stream:
        return stream.file.read(), stream.damage


@pytest.fixture(params=["gz", "zst"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return tmp_path / f"a.jsonl.{request.param}"


def compress(path: Path, data: bytes) -> bytes:
    return COMPRESS[path.suffix[1:]](data)


def test_a_whole_file_has_no_damage(path: Path) -> None:
    assert content(path, compress(path, TEXT)) == (TEXT, "")


def test_several_frames_are_one_stream(path: Path) -> None:
    assert content(path, compress(path, TEXT) + compress(path, b"end")) == (TEXT + b"end", "")


def test_padding_after_gzip_is_no_damage(tmp_path: Path) -> None:
    assert content(tmp_path / "a.csv.gz", gzip.compress(b"ab") + bytes(20_000)) == (b"ab", "")


def test_a_skippable_zstandard_frame_is_skipped(tmp_path: Path) -> None:
    frame = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    data = zstandard.compress(b"ab") + frame + zstandard.compress(b"cd") + frame
    assert content(tmp_path / "a.csv.zst", data) == (b"abcd", "")


def test_a_truncated_file_gives_its_prefix(path: Path) -> None:
    whole = compress(path, TEXT)
    data, damage = content(path, whole[: len(whole) // 2])
    assert len(data) > 100_000
    assert TEXT.startswith(data)
    assert damage == "the compressed data ends too early"


@pytest.mark.parametrize("size", [0, 1, 9])
def test_a_file_cut_in_its_header_is_truncated(path: Path, size: int) -> None:
    data, damage = content(path, compress(path, TEXT)[:size])
    assert data == b""
    assert damage


def test_garbage_after_a_frame_is_damage(path: Path) -> None:
    data, damage = content(path, compress(path, TEXT) + b"garbage!")
    assert data == TEXT
    assert damage


def test_a_wrong_checksum_keeps_what_came_before(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(TEXT[:1000]))
    whole[-6] ^= 1
    data, damage = content(tmp_path / "a.csv.gz", bytes(whole))
    assert data == TEXT[:1000]
    assert "incorrect data check" in damage


def test_damage_in_the_middle_keeps_what_came_before(tmp_path: Path) -> None:
    whole = bytearray(gzip.compress(TEXT))
    middle = len(whole) // 2
    whole[middle : middle + 200] = b"\xff" * 200
    data, damage = content(tmp_path / "a.csv.gz", bytes(whole))
    assert damage
    readable = zlib.decompressobj(wbits=31).decompress(bytes(whole[:middle]))
    assert data.startswith(readable)


def test_garbage_from_the_first_byte_is_unreadable(path: Path) -> None:
    with pytest.raises(UnreadableInputError, match=f"{path.name}: is not a readable"):
        content(path, b"this is not compressed")


def test_lines_keep_newlines_and_lose_the_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfa\r\nb\n\nc")
    (shard,) = find_shards([str(tmp_path)], Columns())
    with open_stream(shard) as stream:
        assert list(lines(stream, "a.csv")) == [b"a\r\n", b"b\n", b"\n", b"c"]


def test_an_endless_line_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_RECORD", 10)
    stream = streams.Stream(io.BytesIO(b"a" * 10 + b"\n" + b"b" * 12))
    with pytest.raises(UnreadableInputError, match=r"x\.csv: line 1 is longer than 10 bytes"):
        list(lines(stream, "x.csv"))


class FailingFile(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        raise OSError(5, "Input/output error")


def test_failures_of_the_storage_are_not_damage() -> None:
    source = streams._Source(FailingFile(b"abc"), "s3://a/b")
    with pytest.raises(StorageError, match=r"s3://a/b: cannot be read.*try again"):
        io.BufferedReader(source).read()


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError), open_source(str(tmp_path / "a.csv")):
        pass
