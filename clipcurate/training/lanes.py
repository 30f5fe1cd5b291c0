"""The order of a dataset too large to shuffle as a whole: blocks, lanes and windows.

An epoch's stream is all blocks in an order keyed by (seed, epoch), the samples of each block in an
order keyed by (seed, epoch, block). Cut by sample count, it gives every lane its segment; a lane is
its segments of all epochs, one after the other. Within a segment, windows of k blocks are shuffled
again. All of this is arithmetic on the blocks' sample counts, so any position of any lane is found
at once, and who reads which lane changes nothing.
"""

import bisect
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np

from clipcurate.errors import TrainingError
from clipcurate.training.order import (
    BLOCK_ORDER,
    BLOCKS,
    I64,
    WINDOW_ORDER,
    WINDOWS,
    fold,
    shuffled,
)


@dataclass(frozen=True)
class Window:
    """Consecutive visits of a lane, in the order of visiting.

    Attributes:
        first: position in the lane of the first visit.
        epoch: of all its visits.
        blocks: the distinct blocks it needs, shape (blocks,).
        block, index: block of each visit, and which of the samples that the epoch shows of it,
            shape (visits,).
    """

    first: int
    epoch: int
    blocks: I64
    block: I64
    index: I64

    @property
    def stop(self) -> int:
        """The position after the last visit: the next window's first."""
        return self.first + len(self.block)


class Epochs(Protocol):
    """How many samples each epoch shows. All samples are numbered through, epoch by epoch."""

    def counts(self, epoch: int) -> I64:
        """Return the samples of each block in an epoch, shape (blocks,)."""

    def before(self, epoch: int) -> int:
        """Return the samples of the epochs from the first to `epoch` - 1 together."""

    def at(self, sample: int) -> int:
        """Return the epoch that shows a sample."""


class EqualEpochs:
    """Epochs from `first` on that all show the same number of samples of each block."""

    def __init__(self, counts: I64, first: int = 0) -> None:
        self._counts = counts
        self._samples = int(counts.sum())
        self._first = first
        _require_samples(self._samples, first)

    def counts(self, epoch: int) -> I64:
        """Return the samples of each block."""
        return self._counts

    def before(self, epoch: int) -> int:
        """Return the samples of the epochs from the first to `epoch` - 1 together."""
        return (epoch - self._first) * self._samples

    def at(self, sample: int) -> int:
        """Return the epoch that shows a sample."""
        return self._first + sample // self._samples


class UnequalEpochs:
    """Epochs from `first` on whose counts have to be looked up, each once as long as it lasts."""

    def __init__(self, counts: Callable[[int], I64], first: int = 0) -> None:
        self.counts = lru_cache(maxsize=3)(counts)
        self._first = first
        self._ends = [0]

    def before(self, epoch: int) -> int:
        """Return the samples of the epochs from the first to `epoch` - 1 together."""
        while len(self._ends) <= epoch - self._first:
            self._add()
        return self._ends[epoch - self._first]

    def at(self, sample: int) -> int:
        """Return the epoch that shows a sample. Raises TrainingError: one shows nothing."""
        while self._ends[-1] <= sample:
            self._add()
        return self._first + bisect.bisect_right(self._ends, sample) - 1

    def _add(self) -> None:
        epoch = self._first + len(self._ends) - 1
        samples = int(self.counts(epoch).sum())
        _require_samples(samples, epoch)
        self._ends.append(self._ends[-1] + samples)


def _require_samples(samples: int, epoch: int) -> None:
    if not samples:
        raise TrainingError(
            f"epoch {epoch} would show no image: t keeps next to nothing; train with a larger t"
        )


class Lanes:
    """The lanes of one dataset. Pure: depends on the arguments of the constructor alone."""

    def __init__(
        self, epochs: Epochs, lanes: int, window_blocks: int, seed: int, dataset: int = 0
    ) -> None:
        """Prepare the lanes.

        Args:
            epochs: samples per block and epoch.
            lanes: number of lanes.
            window_blocks: how many blocks are shuffled together.
            seed: of the order.
            dataset: tells apart the datasets of a mixture.
        """
        self._epochs = epochs
        self._lanes = lanes
        self._window_blocks = window_blocks
        self._key = fold(seed, dataset)
        self._stream = lru_cache(maxsize=2)(self._stream_of)

    def epoch_start(self, lane: int, epoch: int) -> int:
        """Return the position at which `lane` begins `epoch`: ⌊(samples before + lane) / lanes⌋.

        By Hermite's identity these add up to the samples before over all lanes, so that no sample
        is left over, and no lane is ever more than one sample ahead of another.
        """
        return (self._epochs.before(epoch) + lane) // self._lanes

    def epoch_at(self, lane: int, position: int) -> int:
        """Return the epoch of a position of a lane: the last that begins at or before it."""
        return self._epochs.at((position + 1) * self._lanes - lane - 1)

    def window_at(self, lane: int, position: int) -> Window:
        """Return the window that holds a position of a lane."""
        epoch = self.epoch_at(lane, position)
        order, ends = self._stream(epoch)
        start = self._stream_start(lane, epoch + 1) - self._stream_start(lane, epoch)
        begin = self.epoch_start(lane, epoch)
        stop = start + self.epoch_start(lane, epoch + 1) - begin
        first, at, last = np.searchsorted(
            ends, [start, start + position - begin, stop - 1], side="right"
        ).tolist()
        low, high = self._window_range(lane, epoch, first, at, last + 1)
        places = np.arange(low, high)
        blocks = order[places]
        counts = self._epochs.counts(epoch)[blocks]
        starts = ends[places] - counts
        lows, highs = np.maximum(starts, start), np.minimum(ends[places], stop)
        block, index = self._visits(lane, epoch, blocks, counts, lows - starts, highs - starts)
        return Window(begin + int(lows[0]) - start, epoch, blocks, block, index)

    def following(self, epoch: int, block: int, number: int) -> I64:
        """Return the blocks after one in an epoch's stream, around its end; the others if fewer."""
        order, _ = self._stream(epoch)
        place = int(np.flatnonzero(order == block)[0])
        turned: I64 = np.roll(order, -place)
        return turned[1 : 1 + number]

    def _stream_of(self, epoch: int) -> tuple[I64, I64]:
        """Return the blocks in the order of the epoch, and where each ends in its stream."""
        counts = self._epochs.counts(epoch)
        order = shuffled(len(counts), fold(self._key, BLOCKS, epoch))
        order = order[counts[order] > 0]
        return order, np.cumsum(counts[order])

    def _stream_start(self, lane: int, epochs: int) -> int:
        """Return the sum of `epoch_start(u, epochs)` over the lanes u below `lane`."""
        whole, rest = divmod(self._epochs.before(epochs), self._lanes)
        return whole * lane + max(0, lane + rest - self._lanes)

    def _window_range(
        self, lane: int, epoch: int, first: int, at: int, end: int
    ) -> tuple[int, int]:
        """Return the places in the epoch's order of the window around place `at`.

        A segment's first window has 1 to k blocks, so that lanes do not all change at once.
        """
        size = self._window_blocks
        if end - first <= size:
            return first, end
        second = first + 1 + fold(self._key, WINDOWS, epoch, lane) % size
        if at < second:
            return first, second
        low = second + (at - second) // size * size
        return low, min(low + size, end)

    def _visits(
        self, lane: int, epoch: int, blocks: I64, counts: I64, lows: I64, highs: I64
    ) -> tuple[I64, I64]:
        """Shuffle the samples at the places lows … highs of each block's own order together."""
        indices = [
            shuffled(count, fold(self._key, BLOCK_ORDER, epoch, block))[low:high]
            for block, count, low, high in zip(
                blocks.tolist(), counts.tolist(), lows.tolist(), highs.tolist(), strict=True
            )
        ]
        key = fold(self._key, WINDOW_ORDER, epoch, lane, int(blocks[0]))
        order = shuffled(sum(map(len, indices)), key)
        return np.repeat(blocks, highs - lows)[order], np.concatenate(indices)[order]
