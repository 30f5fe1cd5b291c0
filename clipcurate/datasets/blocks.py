"""Blocks: runs of consecutive samples of a dataset's tars, each read with one request.

The writer of a tar knows where its samples end, so it cuts the blocks; publishing joins those of
all tars to one table. With it, a reader learns where every sample lies from a few bytes per block,
and nothing per sample.
"""

import io
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from clipcurate import storage
from clipcurate.datasets.manifest import FileRecord, Manifest
from clipcurate.errors import DatasetError

NAME = "image_blocks.npy"
ROLE = "image_blocks"

# Near enough to this that all blocks of a large tar have 8 to 16 MiB: a range of that size
# is what object stores serve at full speed, and a few thousand of them still fit on a disk.
BLOCK_BYTES = 12 << 20

DTYPE = np.dtype([("tar", "<i8"), ("start", "<i8"), ("stop", "<i8"), ("samples", "<i8")])
"""`tar` counts the dataset's tars in the manifest's order; `start` and `stop` are bytes in it."""

RECORD = 512
Table = npt.NDArray[np.void]


def cut(ends: Sequence[int], block_bytes: int = BLOCK_BYTES) -> list[list[int]]:
    """Cut the samples of a tar, which end at `ends`, into blocks of about equal size.

    Returns:
        [start, stop, samples] per block: as many blocks as bring them nearest to `block_bytes`.
    """
    number = max(1, round(ends[-1] / block_bytes)) if ends else 0
    targets = [ends[-1] * (i + 1) // number for i in range(number)]
    last = np.unique(np.searchsorted(ends, targets))
    stops = np.array(ends, np.int64)[last]
    starts, firsts = np.r_[0, stops[:-1]], np.r_[-1, last[:-1]]
    return np.stack([starts, stops, last - firsts], axis=1).tolist() if number else []


def table(blocks: Sequence[Sequence[Sequence[int]]]) -> Table:
    """Join the blocks of all tars, as `cut` returned them, to one table of DTYPE."""
    rows = [(tar, *block) for tar, of_tar in enumerate(blocks) for block in of_tar]
    return np.array(rows, DTYPE)


def load(url: str, manifest: Manifest) -> Table:
    """Return the table of the dataset in `url`.

    Raises:
        DatasetError: there is none, or it contradicts the manifest.
    """
    files = manifest.of_role(ROLE)
    if not files:
        raise DatasetError(
            f"{url}: has images, but no {NAME}: an earlier version wrote it; emit it again"
        )
    path = storage.join(url, files[0].name)
    content = storage.read_object(path, files[0].hash)
    blocks: Table = np.load(io.BytesIO(content))
    _check(blocks, manifest.of_role("images"), path)
    return blocks


def _check(blocks: Table, tars: Sequence[FileRecord], path: str) -> None:
    """Hold the table against the manifest: every tar from its begin, without gaps, all samples."""
    same = blocks["tar"][1:] == blocks["tar"][:-1]
    begins = np.where(np.r_[False, same], np.r_[0, blocks["stop"][:-1]], 0)
    rows = np.bincount(blocks["tar"], blocks["samples"], minlength=len(tars))
    if not (
        np.array_equal(blocks["start"], begins)
        and (blocks["samples"] > 0).all()
        and rows.tolist() == [tar.rows for tar in tars]
    ):
        raise DatasetError(f"{path}: does not fit the tars in the manifest; emit the dataset again")


def sample_offsets(content: bytes, samples: int, where: str) -> npt.NDArray[np.int64]:
    """Return where the samples of a block begin in its bytes, and its length, (samples + 1,).

    Raises:
        DatasetError: `content` is not a block of that many samples.
    """
    offsets, key = [], None
    for name, start, _ in members(content, where):
        stem = name.partition(".")[0]
        if stem != key:
            key = stem
            offsets.append(start - RECORD)
    if len(offsets) != samples:
        raise DatasetError(
            f"{where}: holds {len(offsets)} samples where {samples} were written; restore the file"
        )
    return np.array([*offsets, len(content)], np.int64)


def members(content: bytes, where: str) -> Iterator[tuple[str, int, int]]:
    """Yield name, offset and size of each file in consecutive members of a tar that we wrote.

    Those are plain ustar without folders and long names; `tarfile`, which reads any tar, takes
    longer to find an image than it takes to decode it.

    Raises:
        DatasetError: the bytes are something else.
    """
    position = 0
    while position < len(content):
        header = content[position : position + RECORD]
        try:
            size = int(header[124:135], 8)
            name = header[: header.index(0)].decode("ascii")
        except ValueError as error:
            raise _broken(where, position) from error
        if header[156:157] != b"0" or position + RECORD + size > len(content):
            raise _broken(where, position)
        yield name, position + RECORD, size
        position += RECORD + -(-size // RECORD) * RECORD


def _broken(where: str, position: int) -> DatasetError:
    return DatasetError(f"{where}: no member of a tar {position} bytes on; restore the file")
