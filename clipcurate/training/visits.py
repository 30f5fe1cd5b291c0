"""Which samples a rank visits in a step, with their blocks at hand."""

import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from clipcurate.datasets.images import ImageIndex
from clipcurate.datasets.manifest import Manifest
from clipcurate.errors import InvalidInputError
from clipcurate.training.block_cache import BlockCache, Slot
from clipcurate.training.config import TrainConfig
from clipcurate.training.lanes import Window
from clipcurate.training.mixing import Datasets, Mixture, Source, sources_of
from clipcurate.training.orders import Order
from clipcurate.training.thinning import Chosen

# Steps before a lane's next window begins at which its blocks are asked for: several seconds of
# training, many times what a request takes.
STEPS_AHEAD = 16

# Blocks that are searched for an image in place of a broken one, after its own: where even a tenth
# of a dataset's blocks held none that can be decoded, all of them would fail once in 10⁹.
STAND_INS = 8


@dataclass(frozen=True)
class Mix:
    """Datasets to train on together; of each sum(weights) pairs, weights[d] come from dataset d."""

    indexes: tuple[ImageIndex, ...]
    weights: tuple[int, ...] = (1,)

    @classmethod
    def open(cls, datasets: Datasets) -> "Mix":
        """Open the datasets, each as `ImageIndex.open` does. Raises InvalidInputError: weights."""
        sources = sources_of(datasets)
        indexes = tuple(ImageIndex.open(source.url) for source in sources)
        return cls(indexes, tuple(source.weight for source in sources))

    @property
    def manifests(self) -> list[tuple[Manifest, int]]:
        """The datasets' manifests, each with its weight."""
        manifests = [index.manifest for index in self.indexes]
        return list(zip(manifests, self.weights, strict=True))

    def describe(self) -> dict[str, Any]:
        """Return `dataset_url` of the first dataset and, of several, `datasets` with all."""
        urls = [index.url for index in self.indexes]
        all_of_them = list(map(asdict, map(Source, urls, self.weights)))
        several = {"datasets": all_of_them} if len(urls) > 1 else {}
        return {"dataset_url": urls[0], **several}


class Held:
    """A window whose blocks are pinned until everyone who uses it is done.

    `chosen` is what its epoch shows of each block.
    """

    def __init__(
        self, cache: BlockCache, dataset: int, window: Window, chosen: dict[int, Chosen]
    ) -> None:
        self.dataset = dataset
        self.window = window
        self.chosen = chosen
        self.slots: dict[int, Slot] = {}
        self.announced = False
        self._cache = cache
        self._users = 1
        self._lock = threading.Lock()

    def try_pin(self) -> bool:
        """Pin the blocks that are not pinned yet, as far as that needs no waiting."""
        for block in self._missing():
            slot = self._cache.try_pin((self.dataset, block))
            if slot is None:
                return False
            self.slots[block] = slot
        return True

    def pin(self) -> None:
        """Pin the blocks that are not pinned yet; waits until others are released."""
        for block in self._missing():
            self.slots[block] = self._cache.pin((self.dataset, block))

    def _missing(self) -> list[int]:
        if len(self.slots) == len(self.window.blocks):
            return []
        return [block for block in self.window.blocks.tolist() if block not in self.slots]

    def use(self) -> None:
        """Count one more user."""
        with self._lock:
            self._users += 1

    def done(self) -> None:
        """Count one user less; after the last, the blocks may go."""
        with self._lock:
            self._users -= 1
            is_last = not self._users
        if is_last:
            for block in self.slots:
                self._cache.unpin((self.dataset, block))


@dataclass(frozen=True)
class Visit:
    """One sample of one step: `row` in the rank's batch.

    It is image number `index` of those that are `chosen` from the block.
    """

    row: int
    dataset: int
    epoch: int
    block: int
    index: int
    chosen: Chosen


@dataclass
class Chunk:
    """Visits to be decoded together; `held` are the windows they keep."""

    visits: list[Visit] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)

    def release(self) -> None:
        """Say that the visits were made."""
        for held in self.held:
            held.done()


class RankVisits:
    """Goes through the steps of one rank in order, holding one window per lane and dataset.

    Not for several threads, but chunks may be released and stand-ins asked for from any.
    """

    def __init__(self, mix: Mix, config: TrainConfig, rank: int, world_size: int) -> None:
        """Prepare rank `rank` of `world_size`, which serves the lanes ≡ rank modulo world_size.

        Raises:
            InvalidInputError: the ranks cannot share the lanes, or cache_bytes is too little.
        """
        data, runtime = config.data, config.runtime
        if data.lanes % world_size:
            raise InvalidInputError(
                f"{world_size} ranks cannot share {data.lanes} lanes evenly; take a number of "
                "ranks that divides them, or (for a new training) set lanes"
            )
        self._lanes = range(rank, data.lanes, world_size)
        self._per_lane = data.batch_size // data.lanes
        self._mixture = Mixture(mix.weights, config.seed)
        self._orders = [
            Order(index, config, self._mixture, number) for number, index in enumerate(mix.indexes)
        ]
        demand = len(self._lanes) * data.window_blocks * len(mix.indexes)
        self.cache = BlockCache(
            mix.indexes, demand, runtime.cache_bytes, runtime.cache_dir, runtime.fetch_threads
        )
        self._held: dict[tuple[int, int], Held] = {}

    def step(self, step: int, chunk_size: int) -> Iterator[Chunk]:
        """Yield the visits of a step in chunks of about `chunk_size`.

        A chunk must be released sooner or later without waiting for the next one.
        """
        first, chunk, row = step * self._per_lane, Chunk(), 0
        for lane in self._lanes:
            datasets, positions = self._mixture.split(lane, first, first + self._per_lane)
            for dataset, position in zip(datasets.tolist(), positions.tolist(), strict=True):
                held = self._window(lane, dataset, position)
                if not held.try_pin():
                    if chunk.visits:
                        yield chunk  # whoever makes these visits will free slots
                        chunk = Chunk()
                    held.pin()
                _add(chunk, held, row, position)
                self._announce(lane, held, position)
                row += 1
            if len(chunk.visits) >= chunk_size:
                yield chunk
                chunk = Chunk()
        if chunk.visits:
            yield chunk

    def stand_ins(self, visit: Visit) -> Iterator[Visit]:
        """Yield what may take a visit's place if nothing shown of its block can be decoded.

        They are of the next blocks of its epoch's stream, which need not be pinned: the same
        whoever serves the lane, and wherever the training began. For any thread.
        """
        order = self._orders[visit.dataset]
        for block in order.following(visit.epoch, visit.block, STAND_INS).tolist():
            chosen = order.chosen(visit.epoch, block)
            index = visit.index % len(chosen.images)
            yield replace(visit, block=block, index=index, chosen=chosen)

    def _window(self, lane: int, dataset: int, position: int) -> Held:
        held = self._held.get((lane, dataset))
        if held and held.window.first <= position < held.window.stop:
            return held
        if held:
            held.done()
        order = self._orders[dataset]
        window = order.window_at(lane, position)
        chosen = {block: order.chosen(window.epoch, block) for block in window.blocks.tolist()}
        new = self._held[lane, dataset] = Held(self.cache, dataset, window, chosen)
        return new

    def _announce(self, lane: int, held: Held, position: int) -> None:
        """Have the next window's blocks fetched when it is near."""
        stop = held.window.stop
        if held.announced or stop - position > STEPS_AHEAD * self._per_lane:
            return
        held.announced = True
        for block in self._orders[held.dataset].window_at(lane, stop).blocks.tolist():
            self.cache.fetch_ahead((held.dataset, block))


def _add(chunk: Chunk, held: Held, row: int, position: int) -> None:
    if not chunk.held or chunk.held[-1] is not held:
        held.use()
        chunk.held.append(held)
    window, at = held.window, position - held.window.first
    block = int(window.block[at])
    index, chosen = int(window.index[at]), held.chosen[block]
    chunk.visits.append(Visit(row, held.dataset, window.epoch, block, index, chosen))
