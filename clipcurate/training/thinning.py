"""Which images of a dataset an epoch shows, and with which of their texts.

A dataset is thinned to t while it is read by the rule that made balanced datasets: a text is there
iff its critical t <= t, and an image iff one of its texts is. With the stored critical t (the coins
of epoch 0) all epochs show the same; online, every epoch has its own coins.
"""

import itertools
import tempfile
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from clipcurate import storage
from clipcurate.balancing import Cut, coins, miss_probability
from clipcurate.datasets.image_pairs import ImagePairs, image_pairs
from clipcurate.datasets.images import ImageIndex
from clipcurate.datasets.manifest import Manifest
from clipcurate.datasets.publishing import read_counts
from clipcurate.datasets.request import EmissionRequest
from clipcurate.errors import InvalidInputError
from clipcurate.training.config import DataConfig
from clipcurate.training.order import I64
from clipcurate.training.schedule import stages

Mask = npt.NDArray[np.bool_]

# Pairs that are decided together: enough that the time goes into arithmetic, in some 100 MB.
CHUNK = 1 << 20


@dataclass(frozen=True)
class Chosen:
    """What an epoch shows of a block.

    Attributes:
        images: the images' numbers in the block, ascending, shape (images,).
        texts: which of its texts each image is shown with, ascending; None for all of them.
    """

    images: I64
    texts: list[I64] | None = None

    def texts_of(self, place: int, texts: tuple[str, ...]) -> tuple[str, ...]:
        """Return those texts of image number `place` of these that it is shown with."""
        if self.texts is None:
            return texts
        return tuple(texts[number] for number in self.texts[place].tolist())


class Selection(Protocol):
    """What of a dataset is shown at a threshold."""

    def counts(self, t: float, epoch: int) -> I64:
        """Return the images of each block that an epoch shows, shape (blocks,)."""

    def chosen(self, t: float, epoch: int, block: int) -> Chosen:
        """Return what an epoch shows of a block."""


class Whole:
    """A dataset of which every epoch shows everything."""

    def __init__(self, index: ImageIndex) -> None:
        self._counts = index.counts

    def counts(self, t: float, epoch: int) -> I64:
        """Return the images of each block."""
        return self._counts

    def chosen(self, t: float, epoch: int, block: int) -> Chosen:
        """Return all images of a block, with all their texts."""
        return Chosen(np.arange(self._counts[block]))


def require_thinnable(url: str, manifest: Manifest, data: DataConfig) -> None:
    """Refuse a dataset that cannot be thinned while it is read, as the settings want it.

    Raises:
        InvalidInputError: it lacks pairs that an epoch would show, or its t is not one number.
    """
    wanted = stages(data.t_schedule)
    if not wanted:
        return
    request = EmissionRequest.from_identity(manifest.identity)
    languages = manifest.identity["run"]["metadata"]
    if len(languages) > 1:
        raise InvalidInputError(
            f"{url}: has metadata of {len(languages)} languages, each with a t of its own; a "
            "t schedule needs one. Emit balanced datasets, and train on those"
        )
    if data.online:
        _require_matched(url, request)
    for cut in map(Cut.from_json, manifest.cuts.values()):
        largest = max(stage.t for stage in wanted)
        if largest > cut.t or (largest == cut.t and cut.last is not None):
            raise InvalidInputError(
                f"{url}: t = {largest:g} would show pairs that this dataset does not hold: its own "
                f"is {cut.t:g}. Set a t_schedule below it, or emit a matched dataset"
            )


def _require_matched(url: str, request: EmissionRequest) -> None:
    """Other coins keep other pairs, and which of them is tossed for depends on the semantics."""
    if request.kind != "matched":
        raise InvalidInputError(
            f"{url}: is a {request.kind} dataset; new coins each epoch (online) keep pairs that "
            "only a matched one holds. Emit it with --emit matched, from the same run if you like"
        )
    if request.semantics != "pair":
        raise InvalidInputError(
            f"{url}: was emitted with semantics {request.semantics}; online balancing tosses one "
            "coin per text. Emit it with --semantics pair"
        )


class Thinned:
    """A dataset of which an epoch shows what its coins keep at t.

    What decides lies in a file without a name, read from the dataset once: 16 bytes per pair with
    stored critical t; online 24, and 8 per threshold.
    """

    def __init__(
        self, index: ImageIndex, thresholds: tuple[float, ...], online: bool, folder: str
    ) -> None:
        """Read what decides.

        Args:
            index: the dataset.
            thresholds: every t that will be asked for.
            online: whether an epoch has coins of its own.
            folder: for the file; "" for the system's temporary directory.

        Raises:
            DatasetError: the dataset contradicts itself, or an earlier version wrote it.
        """
        request = EmissionRequest.from_identity(index.manifest.identity)
        self._seed, self._round = request.seed, request.round
        self._thresholds = thresholds if online else ()
        self._online = online
        self._first_image = index.first_images
        self._pairs = self._read(index, folder)
        blocks = len(self._first_image) - 1
        steps = np.arange(0, self._first_pair[-1], CHUNK)
        edges = np.searchsorted(self._first_pair, steps, side="right") - 1
        self._edges = [*np.unique(edges).tolist(), blocks]

    def counts(self, t: float, epoch: int) -> I64:
        """Return the images of each block that an epoch shows, shape (blocks,)."""
        counts = np.zeros(len(self._first_image) - 1, np.int64)
        for first, last in itertools.pairwise(self._edges):
            pairs = self._of_blocks(first, last)
            images = pairs["image"][self._mask(pairs, t, epoch)]
            images = images[np.r_[True, images[1:] != images[:-1]][: len(images)]]
            block = np.searchsorted(self._first_image, images, side="right") - 1 - first
            counts[first:last] = np.bincount(block, minlength=last - first)
        return counts

    def chosen(self, t: float, epoch: int, block: int) -> Chosen:
        """Return what an epoch shows of a block."""
        pairs = self._of_blocks(block, block + 1)
        image = pairs["image"] - self._first_image[block]
        number = np.arange(len(image)) - np.searchsorted(image, image)
        mask = self._mask(pairs, t, epoch)
        images, starts = np.unique(image[mask], return_index=True)
        return Chosen(images, np.split(number[mask], starts[1:]))

    def _of_blocks(self, first: int, last: int) -> npt.NDArray[np.void]:
        low, high = self._first_pair[[first, last]]
        return self._pairs[low:high]

    def _mask(self, pairs: npt.NDArray[np.void], t: float, epoch: int) -> Mask:
        """Say which pairs an epoch shows."""
        if not self._online:
            stored: Mask = pairs["critical"] <= t
            return stored
        u = coins(pairs["coin_key"], self._seed, self._round, epoch)
        kept: Mask = pairs["miss"][:, self._thresholds.index(t)] < 1.0 - u
        return kept

    def _read(self, index: ImageIndex, folder: str) -> npt.NDArray[np.void]:
        """Put what decides into the file, and find where each block's pairs begin."""
        (counts,) = read_counts(index.url, index.manifest).values()
        columns = ["uid", "text", "entry_ids"] if self._online else ["critical_t"]
        per_block = np.zeros(len(self._first_image) - 1, np.int64)
        with (
            storage.writing(folder or tempfile.gettempdir()),
            tempfile.TemporaryFile(dir=folder or None) as file,
        ):
            for pairs in image_pairs(index.url, index.manifest, columns):
                block = np.searchsorted(self._first_image, pairs.image, side="right") - 1
                per_block += np.bincount(block, minlength=len(per_block))
                file.write(self._deciding(pairs, counts).tobytes())
            file.flush()
            self._first_pair = np.cumsum([0, *per_block], dtype=np.int64)
            return np.memmap(file, self._dtype, "r")

    @property
    def _dtype(self) -> np.dtype[np.void]:
        if not self._online:
            return np.dtype([("image", "<i8"), ("critical", "<f8")])
        shape = (len(self._thresholds),)
        return np.dtype([("image", "<i8"), ("coin_key", "<u8", (2,)), ("miss", "<f8", shape)])

    def _deciding(self, pairs: ImagePairs, counts: I64) -> npt.NDArray[np.void]:
        rows = np.empty(len(pairs.image), self._dtype)
        rows["image"] = pairs.image
        if not self._online:
            rows["critical"] = pairs.critical
            return rows
        rows["coin_key"] = pairs.coin_keys
        for column, t in enumerate(self._thresholds):
            rows["miss"][:, column] = miss_probability(pairs.matches, counts, t)
        return rows
