"""Access to the images of an emitted dataset, with their kept texts.

A dataset's tars hold one sample as consecutive members `<key>.<jpg|png|webp>`, `<key>.txt` and
`<key>.json`. They are read in blocks, whose table `image_blocks.npy` is all that opening reads
beside the manifest.
"""

import itertools
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from clipcurate import storage
from clipcurate.datasets import blocks
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
    """The samples of a dataset in manifest order, in blocks of one request each.

    `counts` are the samples of each block, int64 of shape (blocks,); `first_images` are the numbers
    of the blocks' first samples among all, and the number of all, shape (blocks + 1,). Safe to read
    from several threads: no file stays open.
    """

    def __init__(self, url: str, manifest: Manifest, table: blocks.Table) -> None:
        self.url = url
        self.manifest = manifest
        self.counts: npt.NDArray[np.int64] = table["samples"].astype(np.int64)
        self._tars = [storage.join(url, file.name) for file in manifest.of_role("images")]
        self._table = table
        self.first_images = np.cumsum([0, *self.counts], dtype=np.int64)

    @classmethod
    def open(cls, url: str) -> "ImageIndex":
        """Read the manifest and the table of blocks of the dataset in the folder `url`.

        Raises:
            NotFoundError: no manifest there, so no dataset.
            InvalidInputError: the dataset has no images.
            DatasetError: the table is missing or contradicts the manifest.
        """
        manifest = load(url)
        image_files(url, manifest)
        return cls(url, manifest, blocks.load(url, manifest))

    def __len__(self) -> int:
        return int(self.first_images[-1])

    @property
    def largest_block(self) -> int:
        """The size of the largest block in bytes."""
        return int((self._table["stop"] - self._table["start"]).max())

    def number(self, block: int, index: int) -> int:
        """Return the number of sample `index` of `block` among all samples of the dataset."""
        return int(self.first_images[block]) + index

    def fetch(self, block: int) -> tuple[bytes, npt.NDArray[np.int64]]:
        """Return the bytes of a block, and where its samples begin and the last one ends.

        Raises:
            DatasetError: the tar is cut short, or does not hold what was written.
        """
        tar, start, stop, samples = self._table[block].tolist()
        content = storage.read_range(self._tars[tar], start, stop - start)
        where = self.where(block)
        return content, blocks.sample_offsets(content, samples, where)

    def where(self, block: int) -> str:
        """Say where a block lies, for messages."""
        return f"{self._tars[self._table['tar'][block]]} at byte {self._table['start'][block]}"

    def samples(self, numbers: npt.NDArray[np.int64]) -> Iterator[ImageSample]:
        """Yield samples by ascending number; each block with one of them is read once.

        Raises:
            DatasetError: a sample is malformed.
        """
        of = np.searchsorted(self.first_images, numbers, side="right") - 1
        for block in np.unique(of).tolist():
            content, offsets = self.fetch(block)
            for index in (numbers[of == block] - self.first_images[block]).tolist():
                sample = content[offsets[index] : offsets[index + 1]]
                yield parse_sample(sample, self.where(block))


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


def parse_sample(content: bytes, where: str) -> ImageSample:
    """Return the sample that the bytes of its members hold.

    Raises:
        DatasetError: the sample at `where` has no image or no texts.
    """
    parts, key = {}, ""
    for name, start, size in blocks.members(content, where):
        key, _, suffix = name.partition(".")
        parts[suffix] = content[start : start + size]
    image = image_of(parts)
    if image is None:
        raise DatasetError(f"{where}: sample {key!r} has no image")
    return ImageSample(key, image, _texts(parts, f"{where}: sample {key!r}"))


def _texts(parts: dict[str, bytes], where: str) -> tuple[str, ...]:
    try:
        texts = tuple(str(text["text"]) for text in json.loads(parts["json"])["texts"])
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{where} has no readable texts ({error!r})") from error
    if not texts:
        raise DatasetError(f"{where} has no texts")
    return texts
