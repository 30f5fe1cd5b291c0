"""The pairs of a dataset's images without the images: what decides which of them an epoch shows."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipcurate import storage
from clipcurate.datasets.manifest import FileRecord, Manifest
from clipcurate.datasets.match_index import from_lists
from clipcurate.datasets.parts import SAMPLE
from clipcurate.errors import DatasetError
from clipcurate.hashing import hash_pairs
from clipcurate.matching import Matches
from clipcurate.parquet_files import open_parquet

BATCH_ROWS = 1 << 16


@dataclass(frozen=True)
class ImagePairs:
    """Consecutive pairs of a dataset, in the order of its images.

    Attributes:
        image: number of each pair's image among all images of the dataset, ascending, int64.
        table: the columns that were asked for.
    """

    image: npt.NDArray[np.int64]
    table: pa.Table

    @property
    def coin_keys(self) -> npt.NDArray[np.uint64]:
        """Return the coin keys, shape (n, 2); needs `uid` and `text`."""
        return hash_pairs(self.table["uid"], self.table["text"])

    @property
    def matches(self) -> Matches:
        """Return the matched entries; needs `entry_ids`."""
        return from_lists(self.table["entry_ids"])

    @property
    def critical(self) -> npt.NDArray[np.float64]:
        """Return the stored critical t; needs `critical_t`."""
        critical: npt.NDArray[np.float64] = self.table["critical_t"].to_numpy()
        return critical


def image_pairs(url: str, manifest: Manifest, columns: list[str]) -> Iterator[ImagePairs]:
    """Yield the pairs of the images of the dataset in `url`, 65,536 at a time.

    Raises:
        DatasetError: the parts do not say which sample a pair belongs to, or name others than the
            tars hold.
    """
    tars = {file.part: file.rows for file in manifest.of_role("images")}
    first = 0
    for file in manifest.of_role("pairs"):
        if file.part not in tars:
            continue
        last = -1
        for batch in _batches(url, file, [*columns, SAMPLE]):
            sample = batch[SAMPLE].to_numpy()
            if not len(sample):
                continue
            _check_numbers(np.r_[last, sample], f"{url}: {file.name}")
            last = int(sample[-1])
            yield ImagePairs(first + sample, batch.drop_columns([SAMPLE]))
        if last + 1 != tars[file.part]:
            raise DatasetError(
                f"{url}: {file.name} has pairs of {last + 1} images, its tar {tars[file.part]}; "
                "emit the dataset again"
            )
        first += tars[file.part]


def _batches(url: str, file: FileRecord, columns: list[str]) -> Iterator[pa.Table]:
    with storage.open_read(storage.join(url, file.name)) as source:
        part = open_parquet(source)
        require_samples(part.schema_arrow, f"{url}: {file.name}")
        for batch in part.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
            yield pa.Table.from_batches([batch]).filter(batch[SAMPLE].is_valid())


def require_samples(schema: pa.Schema, where: str) -> None:
    """Raise DatasetError unless a part says which sample a pair belongs to."""
    if SAMPLE not in schema.names:
        raise DatasetError(
            f"{where} has no column {SAMPLE!r}, which says whose text a pair is: an earlier "
            "version wrote it; emit the dataset again"
        )


def _check_numbers(numbers: npt.NDArray[np.int64], where: str) -> None:
    """Samples are numbered from 0 without gaps; a sample's pairs stand side by side."""
    steps = np.diff(numbers)
    if len(steps) and (steps.min() < 0 or steps.max() > 1):
        raise DatasetError(f"{where}: its samples are not numbered in order; emit it again")


def renumbered(pairs: pa.Table) -> pa.Table:
    """Return some of a part's pairs, in order, with the samples of a tar of their images alone."""
    old = pairs[SAMPLE].drop_null().to_numpy()
    new = np.unique(old, return_inverse=True)[1]
    numbers = np.zeros(pairs.num_rows, np.int64)
    present = pairs[SAMPLE].is_valid().to_numpy()
    numbers[present] = new
    column = pa.array(numbers, mask=~present)
    return pairs.set_column(pairs.schema.get_field_index(SAMPLE), SAMPLE, column)
