"""The blocks that a loader needs now or soon, on local disk, each fetched with one request.

One unlinked file of equal slots holds them: its size is bounded by the number of slots, and nothing
is left behind however the process ends. What is not pinned stays until its slot is needed, so a
dataset that fits is fetched once in all.
"""

import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from clipcurate import storage
from clipcurate.datasets.images import ImageIndex
from clipcurate.errors import InvalidInputError

Key = tuple[int, int]
"""Number of the dataset in the mixture, and of the block in it."""


@dataclass
class Slot:
    """A block's place in the file. `offsets` are known when it has been fetched."""

    number: int
    offsets: Future[npt.NDArray[np.int64]]
    pins: int = 0
    is_ahead: bool = False


class BlockCache:
    """Pinned and recently used blocks of several datasets. Safe to use from several threads."""

    def __init__(
        self,
        indexes: Sequence[ImageIndex],
        demand: int,
        budget: int,
        folder: str,
        threads: int,
    ) -> None:
        """Make room for blocks.

        Args:
            indexes: the datasets.
            demand: how many blocks the caller pins at most while it waits for another.
            budget: bytes on disk.
            folder: for the file; "" for the system's temporary directory.
            threads: requests at the same time.

        Raises:
            InvalidInputError: the budget does not suffice for the demand.
        """
        blocks = sum(len(index.counts) for index in indexes)
        self._indexes = indexes
        self._slot_bytes = max(index.largest_block for index in indexes)
        self._slots = min(budget // self._slot_bytes, blocks)
        demand = min(demand, blocks)
        if self._slots < demand:
            raise InvalidInputError(
                f"cache_bytes of {budget:,} is too little: {demand:,} blocks of up to "
                f"{self._slot_bytes:,} bytes are read side by side; give it "
                f"{demand * self._slot_bytes:,} or more, or more ranks, or (for a new training) "
                "fewer lanes or window_blocks"
            )
        self._most_ahead = blocks if self._slots == blocks else self._slots - demand
        self._num_ahead = 0
        self._free = list(range(self._slots))
        self._held: dict[Key, Slot] = {}
        self._idle: OrderedDict[Key, None] = OrderedDict()
        self._changed = threading.Condition()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fetch")
        with storage.writing(folder or tempfile.gettempdir()):
            self._file = tempfile.TemporaryFile(dir=folder or None, buffering=0)  # noqa: SIM115

    def close(self) -> None:
        """Give up the file and what is still being fetched."""
        self._pool.shutdown(cancel_futures=True)
        self._file.close()

    def try_pin(self, key: Key) -> Slot | None:
        """Keep a block here until `unpin`, fetching it if need be; None if there is no slot now."""
        with self._changed:
            slot = self._held.get(key) or self._fetch(key)
            if slot is None:
                return None
            self._idle.pop(key, None)
            self._num_ahead -= slot.is_ahead
            slot.is_ahead = False
            slot.pins += 1
            return slot

    def pin(self, key: Key) -> Slot:
        """As `try_pin`, but wait for a slot."""
        with self._changed:
            while (slot := self.try_pin(key)) is None:
                self._changed.wait()
            return slot

    def unpin(self, key: Key) -> None:
        """Take back one pin."""
        with self._changed:
            slot = self._held[key]
            slot.pins -= 1
            if not slot.pins:
                self._idle[key] = None
                self._changed.notify_all()

    def fetch_ahead(self, key: Key) -> None:
        """Begin to fetch a block that will be pinned soon, if that takes no room from others."""
        with self._changed:
            if key not in self._held and self._num_ahead < self._most_ahead:
                slot = self._fetch(key)
                if slot is not None:
                    slot.is_ahead = True
                    self._num_ahead += 1

    @contextmanager
    def lent(self, key: Key) -> Iterator[Callable[[int], bytes]]:
        """Lend a block, pinned or not: a function from a sample's number to its bytes.

        It never waits for a slot: without one, the block is fetched into memory for this time.

        Raises:
            DatasetError: the block is not what was written.
            StorageError: it cannot be read, or not be kept.
        """
        slot = self.try_pin(key)
        if slot is None:
            dataset, block = key
            content, offsets = self._indexes[dataset].fetch(block)
            yield lambda index: content[slice(*offsets[index : index + 2].tolist())]
            return
        try:
            yield partial(self._read, slot)
        finally:
            self.unpin(key)

    def _read(self, slot: Slot, index: int) -> bytes:
        """Return the bytes of a sample of a pinned block; waits until the block is here."""
        start, stop = slot.offsets.result()[index : index + 2].tolist()
        return os.pread(self._file.fileno(), stop - start, self._place(slot.number) + start)

    def _fetch(self, key: Key) -> Slot | None:
        if not self._free and self._idle:
            evicted, _ = self._idle.popitem(last=False)
            self._free.append(self._held.pop(evicted).number)
        if not self._free:
            return None
        number = self._free.pop()
        slot = Slot(number, self._pool.submit(self._fill, key, number))
        self._held[key] = slot
        return slot

    def _fill(self, key: Key, number: int) -> npt.NDArray[np.int64]:
        dataset, block = key
        content, offsets = self._indexes[dataset].fetch(block)
        left, place = memoryview(content), self._place(number)
        with storage.writing("the cache of blocks"):
            while left:
                written = os.pwrite(self._file.fileno(), left, place)
                left, place = left[written:], place + written
        return offsets

    def _place(self, number: int) -> int:
        return number * self._slot_bytes
