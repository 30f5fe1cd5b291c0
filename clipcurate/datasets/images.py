"""Random access to the images of an emitted dataset, with their kept texts.

A dataset's tars hold one sample as consecutive members `<key>.<jpg|png|webp>`, `<key>.txt` and
`<key>.json`. Opening reads tar headers only; each sample is then one ranged read of its span.
"""

import io
import itertools
import json
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from clipcurate import storage
from clipcurate.datasets.manifest import FileRecord, Manifest, load
from clipcurate.errors import DatasetError, InvalidInputError

IMAGE_SUFFIXES = frozenset({"bmp", "gif", "jpeg", "jpg", "png", "tif", "tiff", "webp"})
BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class ImageSample:
    """One image and the texts that curation kept for it: at least one, in the dataset's order."""

    key: str
    image: bytes
    texts: tuple[str, ...]


@dataclass(frozen=True)
class TarMember:
    """A file of a tar: its name, the span of header and content, and where the content lies."""

    name: str
    start: int
    stop: int
    data_start: int
    size: int

    @property
    def stem(self) -> str:
        """The sample key: the name up to the first dot of its last segment."""
        folder, slash, name = self.name.rpartition("/")
        return folder + slash + name.partition(".")[0]

    @property
    def suffix(self) -> str:
        """What follows the first dot of the last segment, in lower case."""
        return self.name.rpartition("/")[2].partition(".")[2].lower()


class ImageIndex:
    """The samples of a dataset in manifest order, each readable by its number.

    Safe to read from several threads: no file stays open.
    """

    def __init__(
        self,
        url: str,
        manifest: Manifest,
        tars: list[str],
        first: npt.NDArray[np.int64],
        spans: npt.NDArray[np.int64],
    ) -> None:
        self.url = url
        self.manifest = manifest
        self._tars = tars
        self._first = first
        self._spans = spans

    @classmethod
    def open(cls, url: str) -> "ImageIndex":
        """Index the dataset in the folder `url`.

        Raises:
            NotFoundError: no manifest there, so no dataset.
            InvalidInputError: the dataset has no images.
            DatasetError: a tar is cut short or does not hold what the manifest says.
        """
        manifest = load(url)
        files = image_files(url, manifest)
        tars = [storage.join(url, file.name) for file in files]
        spans = [_sample_spans(tar, file.rows) for tar, file in zip(tars, files, strict=True)]
        first = np.cumsum([0, *map(len, spans)], dtype=np.int64)
        return cls(url, manifest, tars, first, np.concatenate(spans))

    def __len__(self) -> int:
        return len(self._spans)

    def read(self, number: int) -> ImageSample:
        """Return sample `number` (0 ≤ number < len). Raises DatasetError if it is malformed."""
        tar = self._tars[int(np.searchsorted(self._first, number, side="right")) - 1]
        start, stop = self._spans[number].tolist()
        fs, path = storage.locate(tar)
        content = fs.cat_file(path, start=start, end=stop)
        return _parse_sample(content, f"{tar} at byte {start}")


def tar_members(file: BinaryIO, name: str) -> Iterator[TarMember]:
    """Yield the regular files of an uncompressed tar by its headers alone.

    Raises:
        DatasetError: the tar `name` is cut short or is no tar.
    """
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # else it keeps every header
                if info.isfile():
                    stop = info.offset_data + -(-info.size // BLOCK) * BLOCK
                    yield TarMember(info.name, info.offset, stop, info.offset_data, info.size)
    except tarfile.TarError as error:
        raise DatasetError(f"{name}: not a complete tar ({error}); fetch the file again") from error


def tar_samples(file: BinaryIO, name: str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield (key, contents by suffix) of each sample of a webdataset tar, in its order.

    Raises:
        DatasetError: the tar `name` is cut short or is no tar.
    """
    for key, members in itertools.groupby(tar_members(file, name), lambda member: member.stem):
        parts = {}
        for member in members:
            file.seek(member.data_start)
            parts[member.suffix] = file.read(member.size)
        yield key, parts


def image_of(parts: dict[str, bytes]) -> bytes | None:
    """Return the image among a sample's contents by suffix."""
    return next((data for suffix, data in parts.items() if suffix in IMAGE_SUFFIXES), None)


def image_files(url: str, manifest: Manifest) -> list[FileRecord]:
    """Return the tars of the dataset in `url`. Raises InvalidInputError if there is no image."""
    files = [file for file in manifest.of_role("images") if file.rows]
    if not files:
        raise InvalidInputError(
            f"{url}: the dataset has no images; download them with img2dataset, curate what "
            "arrived (a webdataset pool) again, and train on that dataset"
        )
    return files


def _sample_spans(tar: str, rows: int) -> npt.NDArray[np.int64]:
    """Return (start, stop) of each sample of `tar`, shape (samples, 2)."""
    with storage.open_read(tar) as file:
        spans = list(_group_spans(tar_members(file, tar)))
    if len(spans) != rows:
        raise DatasetError(
            f"{tar}: holds {len(spans)} samples, the manifest says {rows}; fetch the file again"
        )
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def _group_spans(members: Iterable[TarMember]) -> Iterator[tuple[int, int]]:
    """Join consecutive members of one key to (start, stop)."""
    for _, group in itertools.groupby(members, lambda member: member.stem):
        first, *others = group
        yield first.start, (others[-1] if others else first).stop


def _parse_sample(content: bytes, where: str) -> ImageSample:
    key, parts = next(tar_samples(io.BytesIO(content), where))
    image = image_of(parts)
    if image is None:
        raise DatasetError(f"{where}: sample {key!r} has no image")
    return ImageSample(key, image, _texts(parts, f"{where}: sample {key!r}"))


def _texts(parts: dict[str, bytes], where: str) -> tuple[str, ...]:
    try:
        if "json" in parts:
            texts = tuple(str(text["text"]) for text in json.loads(parts["json"])["texts"])
        else:
            texts = (parts["txt"].decode(),)
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{where} has no readable texts ({error!r})") from error
    if not texts:
        raise DatasetError(f"{where} has no texts")
    return texts
