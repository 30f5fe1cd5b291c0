"""What is asked of storage, on a file system that counts, and an order of 10⁸ samples."""

import os
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from clipcurate.datasets import blocks
from clipcurate.datasets.images import ImageIndex
from clipcurate.datasets.manifest import FileRecord, Manifest
from clipcurate.datasets.outcomes import Totals
from clipcurate.training.config import DataConfig, TrainConfig
from clipcurate.training.data import TrainingData
from clipcurate.training.lanes import EqualEpochs, Lanes
from clipcurate.training.model import create_tokenizer
from clipcurate.training.visits import Mix, RankVisits
from tests.image_datasets import write_image_dataset

from .conftest import render

Make = Callable[..., TrainConfig]


class Requests:
    """Ranged reads of tars in memory://, counted."""

    def __init__(self) -> None:
        self.ranges: Counter[tuple[str, int, int]] = Counter()

    @property
    def nbytes(self) -> int:
        return sum(count * (end - start) for (_, start, end), count in self.ranges.items())


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[Requests]:
    counted, read = Requests(), MemoryFileSystem.cat_file

    def cat_file(fs: Any, path: str, start: int = 0, end: int = 0, **kwargs: Any) -> Any:
        counted.ranges[path, start, end] += 1
        return read(fs, path, start=start, end=end, **kwargs)

    monkeypatch.setattr(MemoryFileSystem, "cat_file", cat_file)
    yield counted
    MemoryFileSystem.store.clear()


def memory_dataset(name: str, images: int, parts: int, block_bytes: int) -> ImageIndex:
    image = render("red disc")
    rows = [[(image, [f"{p} {i}"]) for i in range(images // parts)] for p in range(parts)]
    url = f"memory://{name}"
    return ImageIndex.open(write_image_dataset(url, rows, block_bytes=block_bytes))


def test_an_epoch_reads_each_block_once_and_a_little_more(
    requests: Requests, make_config: Make
) -> None:
    """Blocks that a lane's end cuts are read by both lanes; the next epoch's first, ahead."""
    index = memory_dataset("epoch", 800, 4, block_bytes=20_000)
    blocks_, lanes = len(index.counts), 4
    assert blocks_ > 20 * lanes
    small = {"lanes": lanes, "window_blocks": 2, "batch_size": 16}
    cache = 14 * index.largest_block
    config = make_config(**small, cache_bytes=cache, prefetch_batches=1)
    tokenize = create_tokenizer(config.model)
    for _ in TrainingData(index, config, tokenize).batches(0, 50):
        pass
    assert len(requests.ranges) == blocks_
    assert requests.ranges.total() <= blocks_ + (lanes - 1) + lanes * 2
    once = sum(end - start for _, start, end in requests.ranges)
    assert requests.nbytes <= 1.1 * once


def test_a_dataset_that_fits_is_read_once_in_all(requests: Requests, make_config: Make) -> None:
    index = memory_dataset("fits", 160, 2, block_bytes=40_000)
    config = make_config(batch_size=16)
    for _ in TrainingData(index, config, create_tokenizer(config.model)).batches(0, 35):
        pass
    assert set(requests.ranges.values()) == {1}
    assert len(requests.ranges) == len(index.counts)


def test_shared_memory_is_not_touched_and_nothing_is_left_behind(
    tmp_path: Path, dataset_url: str, make_config: Make
) -> None:
    def entries() -> set[str]:
        return set(os.listdir("/dev/shm")) if Path("/dev/shm").is_dir() else set()  # noqa: PTH208

    before = entries()
    config = make_config(cache_dir=str(tmp_path), decode_threads=2)
    batches = TrainingData(ImageIndex.open(dataset_url), config, create_tokenizer(config.model))
    running = batches.batches(0, 6)
    next(running)
    assert entries() <= before
    assert list(tmp_path.iterdir()) == []
    running.close()


def huge_index(blocks_per_tar: int = 22, tars: int = 7_400, samples: int = 614) -> ImageIndex:
    """10⁸ samples of 20 KB in 162,800 blocks of 12 MB; no tar is there."""
    tar = np.repeat(np.arange(tars), blocks_per_tar)
    start = np.tile(np.arange(blocks_per_tar) * 12_500_000, tars)
    table = np.zeros(len(tar), blocks.DTYPE)
    table["tar"], table["start"], table["stop"] = tar, start, start + 12_500_000
    table["samples"] = samples + np.arange(len(tar)) % 3 - 1
    rows = np.bincount(tar, table["samples"])
    size = 12_500_000 * blocks_per_tar
    files = tuple(
        FileRecord(f"images-{i:05d}-{i:016x}.tar", "images", size, f"{i:032x}", int(rows[i]), i)
        for i in range(tars)
    )
    return ImageIndex(
        "memory://huge", Manifest({}, "e", Totals(), {}, {}, 0, 0, 0, [], files, {}), table
    )


def test_a_step_of_a_hundred_million_samples_is_found_at_once() -> None:
    tracemalloc.start()
    index = huge_index()
    assert len(index) > 99_900_000
    began = time.process_time()
    lanes, per_lane = 1_024, 32
    order = Lanes(EqualEpochs(index.counts), lanes, 4, seed=1)
    step = 3 * len(index) // 32_768 + 1_234
    seen = set()
    for lane in range(lanes):
        window = order.window_at(lane, step * per_lane)
        at = step * per_lane - window.first
        visits = zip(
            window.block[at : at + per_lane], window.index[at : at + per_lane], strict=True
        )
        seen |= {(lane, int(b), int(i)) for b, i in visits}
        assert window.epoch == 3
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.process_time() - began < 60
    assert peak < 100 << 20
    assert len({sample[1:] for sample in seen}) == len(seen)


def test_ranks_read_only_the_windows_of_their_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resuming 10⁸ samples on one of 128 ranks takes its 8 lanes' windows: at most 32 requests."""
    asked: Counter[int] = Counter()

    def fetch(index: ImageIndex, block: int) -> tuple[bytes, Any]:
        asked[block] += 1
        return b"", np.zeros(int(index.counts[block]) + 1, np.int64)

    monkeypatch.setattr(ImageIndex, "fetch", fetch)
    config = TrainConfig("test", data=DataConfig())
    visits = RankVisits(Mix((huge_index(),)), config, rank=5, world_size=128)
    chunks = list(visits.step(12_345, chunk_size=64))
    visits.cache.close()
    assert sum(len(chunk.visits) for chunk in chunks) == 256
    assert 8 <= asked.total() <= 8 * 4 + 8 * 4
    assert set(asked.values()) == {1}
