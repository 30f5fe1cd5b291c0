"""WebDataset shards: tars whose consecutive members with one key make a sample."""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from tarfile import EOFHeaderError, HeaderError, InvalidHeaderError  # type: ignore[attr-defined]
from typing import IO, Any, Self, cast

import pyarrow as pa

from clipcurate.errors import UnreadableInputError
from clipcurate.pools.columns import Columns, Roles, choose
from clipcurate.pools.jsonl import parse_object
from clipcurate.pools.pairs import INVALID_UTF8, MALFORMED, NO_IMAGE, TRUNCATED
from clipcurate.pools.records import Extras, Record, make_record, stream_tables, text_value
from clipcurate.pools.shards import Shard
from clipcurate.pools.streams import MAX_RECORD, Stream, open_stream

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
TEXT_EXTRAS = (pa.field("json", pa.string()), pa.field("webdataset_key", pa.string()))
IMAGE_EXTRAS = (pa.field("image", pa.binary()), pa.field("image_ext", pa.string()))

_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)", re.DOTALL)


def read_webdataset(
    shard: Shard, columns: Columns, images: bool, batch_rows: int
) -> Iterator[pa.Table]:
    """Yield the pairs of a tar. One sample is in memory at a time, besides the batch.

    The text is the requested json field, else the .txt member, else a json field with a
    well-known name. Without `images` their bytes are skipped, but still count.

    Raises:
        UnreadableInputError: the file is no tar.
    """
    fields = TEXT_EXTRAS + (IMAGE_EXTRAS if images else ())
    with open_stream(shard) as stream:
        samples = _samples(stream, shard, images)
        records = (_record(sample, columns, images) for sample in samples)
        yield from stream_tables(records, fields, batch_rows)


@dataclass
class _Sample:
    """What the members with one key hold; `extensions` are all that were met."""

    key: str
    extensions: set[str] = field(default_factory=set)
    text: bytes | None = None
    json: bytes = b""
    image: bytes = b""
    image_ext: str = ""
    image_bytes: int = 0
    reject: str | None = None


class _Header(tarfile.TarInfo):
    """A member's header. It remembers in its tar what ended it: tarfile itself swallows that."""

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> Self:
        before = tarfile.offset
        try:
            header = super().fromtarfile(tarfile)
        except HeaderError as error:
            cast(_Tar, tarfile).ending = error
            raise
        except (ValueError, LookupError, OverflowError) as error:
            raise InvalidHeaderError(str(error)) from error
        if tarfile.offset <= before:
            tarfile.offset = before  # going back would never end (CVE-2025-8194)
            raise InvalidHeaderError("negative size")
        return header


class _Tar(tarfile.TarFile):
    """A tar that knows whether it came to its end marker."""

    tarinfo = _Header
    members: list[tarfile.TarInfo]
    ending: HeaderError | None = None

    def is_complete(self) -> bool:
        return isinstance(self.ending, EOFHeaderError)


def _open(stream: Stream, shard: Shard) -> _Tar | None:
    """Open a tar; None if it breaks off inside its first header."""
    mode: Any = "r|" if shard.compression else "r:"  # seeking past images needs no reading
    try:
        return _Tar.open(
            fileobj=stream.file, mode=mode, encoding="utf-8", errors="backslashreplace"
        )
    except tarfile.TarError as error:
        if isinstance(error.__context__, InvalidHeaderError):
            raise UnreadableInputError(
                f"{shard.name}: is not a tar ({error}); restore it or rename it to what it is"
            ) from error
        return None


def _samples(stream: Stream, shard: Shard, images: bool) -> Iterator[_Sample]:
    """Yield the samples; where the tar breaks off, the one begun is rejected."""
    tar = _open(stream, shard)
    sample = _Sample("")
    if tar is None:
        yield replace(sample, reject=TRUNCATED)
        return
    try:
        for key, extension, member in _members(tar, shard):
            if sample.key != key or extension in sample.extensions:
                if sample.key:
                    yield sample
                sample = _Sample(key)
            _add(sample, extension, member, tar, images)
    except (tarfile.TarError, OverflowError):
        tar.ending = None
    if not tar.is_complete():
        sample.reject = TRUNCATED
    if sample.key or sample.reject:
        yield sample


def _members(tar: _Tar, shard: Shard) -> Iterator[tuple[str, str, tarfile.TarInfo]]:
    """Yield key, extension and header of each regular file that has both."""
    while (member := tar.next()) is not None:
        tar.members.clear()  # else the headers of the whole tar stay in memory
        name = _NAME.fullmatch(member.name)
        if name and member.isreg():
            yield name[1], name[2].lower(), member
        if not shard.compression and tar.offset > shard.size:
            raise tarfile.ReadError("unexpected end of data")


def _add(sample: _Sample, extension: str, member: tarfile.TarInfo, tar: _Tar, images: bool) -> None:
    sample.extensions.add(extension)
    is_image = extension in IMAGE_EXTENSIONS and not sample.image_ext
    if not (is_image or extension in ("txt", "json")):
        return
    if member.size > MAX_RECORD:
        sample.reject = MALFORMED
    elif is_image:
        sample.image_ext, sample.image_bytes = extension, member.size
        sample.image = _content(tar, member) if images else b""
    elif extension == "txt":
        sample.text = _content(tar, member)
    else:
        sample.json = _content(tar, member)


def _content(tar: _Tar, member: tarfile.TarInfo) -> bytes:
    with cast(IO[bytes], tar.extractfile(member)) as file:
        return file.read()


def _record(sample: _Sample, columns: Columns, images: bool) -> Record:
    image = (sample.image, sample.image_ext) if images else ()
    parsed = parse_object(sample.json) if sample.json else {}
    reject = sample.reject or (parsed if isinstance(parsed, str) else None)
    if reject or isinstance(parsed, str):
        blank: Extras = (b"", "") if images else ()
        return Record(extras=("", sample.key, *blank), reject=reject)
    record = _described(sample, {"__key__": sample.key} | parsed, columns)
    if not sample.image_bytes and not record.reject:
        record = replace(record, reject=NO_IMAGE)
    return replace(record, extras=(record.extras[0], sample.key, *image))


def _described(sample: _Sample, fields: dict[str, Any], columns: Columns) -> Record:
    """Build the record without its image, whose bytes count all the same."""
    extras = (sample.json.decode(), sample.key)
    roles = choose(columns, tuple(fields))
    try:
        texts = _texts(sample, fields, columns, roles)
    except UnicodeDecodeError:
        return Record(extras=extras, reject=INVALID_UTF8, bytes=sample.image_bytes)
    return make_record(fields, roles, texts, extras, sample.image_bytes)


def _texts(sample: _Sample, fields: dict[str, Any], columns: Columns, roles: Roles) -> Any:
    is_requested = columns.text is not None and roles.text is not None
    if sample.text is None or is_requested:
        return text_value(fields, roles)
    return sample.text.decode()
