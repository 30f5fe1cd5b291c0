"""What is asked of storage, on a file system that counts, and an order of 10⁸ samples."""

import io
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clipcurate.datasets import blocks
from clipcurate.datasets.images import ImageIndex
from clipcurate.datasets.manifest import FileRecord, Manifest
from clipcurate.datasets.outcomes import Totals
from clipcurate.datasets.parts import write_images
from clipcurate.hashing import hash_bytes
from clipcurate.training.config import TrainConfig
from clipcurate.training.data import TrainingData
from clipcurate.training.lanes import EqualEpochs, Lanes
from clipcurate.training.model import create_tokenizer
from tests.counting_storage import CountedFileSystem, Periodic
from tests.image_datasets import record, write_image_dataset

from .conftest import render

Make = Callable[..., TrainConfig]


Store = type[CountedFileSystem]


@pytest.fixture
def store() -> Iterator[Store]:
    yield CountedFileSystem
    CountedFileSystem.forget()


def counted_dataset(name: str, images: int, parts: int, block_bytes: int) -> ImageIndex:
    """Write a dataset and open it; what is counted from then on are its tars."""
    image = render("red disc")
    rows = [[(image, [f"{p} {i}"]) for i in range(images // parts)] for p in range(parts)]
    url = f"counted://{name}"
    index = ImageIndex.open(write_image_dataset(url, rows, block_bytes=block_bytes))
    CountedFileSystem.count_anew()
    return index


def test_an_epoch_reads_each_block_once_and_a_little_more(store: Store, make_config: Make) -> None:
    """Blocks that a lane's end cuts are read by both lanes; the next epoch's first, ahead."""
    index = counted_dataset("epoch", 800, 4, block_bytes=20_000)
    blocks_, lanes = len(index.counts), 4
    assert blocks_ > 20 * lanes
    small = {"lanes": lanes, "window_blocks": 2, "batch_size": 16}
    cache = 14 * index.largest_block
    config = make_config(**small, cache_bytes=cache, prefetch_batches=1)
    tokenize = create_tokenizer(config.model)
    for _ in TrainingData(index, config, tokenize).batches(0, 50):
        pass
    assert len(store.gets) == blocks_
    assert store.requests() <= blocks_ + (lanes - 1) + lanes * 2
    once = sum(end - start for _, start, end in store.gets)
    assert store.nbytes() <= 1.1 * once


def test_a_dataset_that_fits_is_read_once_in_all(store: Store, make_config: Make) -> None:
    index = counted_dataset("fits", 160, 2, block_bytes=40_000)
    config = make_config(batch_size=16)
    for _ in TrainingData(index, config, create_tokenizer(config.model)).batches(0, 35):
        pass
    assert set(store.gets.values()) == {1}
    assert store.requests() == len(store.gets) == len(index.counts)


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


@dataclass(frozen=True)
class Huge:
    """10⁸ samples of some 20 KB in the format that datasets have; tars are made where read."""

    url: str
    index_bytes: int


@pytest.fixture
def huge(store: Store, tmp_path: Path) -> Huge:
    tars, per_tar = 7_400, 13_514
    noise = np.random.default_rng(0).integers(0, 256, (136, 136, 3), np.uint8)
    jpeg = io.BytesIO()
    Image.fromarray(noise).save(jpeg, "JPEG", quality=90)
    pair = [(jpeg.getvalue(), "jpg", record([f"text {number}"])) for number in (0, 1)]
    _, period = write_images(pair, 0, tmp_path / "tar")
    content = Periodic((tmp_path / "tar").read_bytes()[:period], per_tar // 2 * period)
    ends = np.arange(1, per_tar + 1) * (period // 2)
    table = blocks.table([blocks.cut(ends.tolist())] * tars)
    stored = io.BytesIO()
    np.save(stored, table)
    files = [
        FileRecord(f"images-{i:05d}-{i:016x}.tar", "images", len(content), f"{i:032x}", per_tar, i)
        for i in range(tars)
    ]
    digest = hash_bytes(stored.getvalue())
    about = FileRecord(blocks.NAME, blocks.ROLE, len(stored.getvalue()), digest, len(table))
    manifest = Manifest({}, "e", Totals(), {}, {}, 0, 0, 0, [], (*files, about), {}).to_bytes()
    store.objects.update({f"huge/{file.name}": content for file in files})
    store.objects |= {"huge/manifest.json": manifest, f"huge/{blocks.NAME}": stored.getvalue()}
    return Huge("counted://huge", len(manifest) + about.size)


def test_a_hundred_million_samples_are_gone_on_with_for_what_a_step_needs(
    huge: Huge, store: Store, make_config: Make
) -> None:
    """In the midst of an epoch, on one of 512 ranks, at the recipe's batch and lanes."""
    recipe = {"batch_size": 32_768, "lanes": 1_024, "window_blocks": 4, "seen_pairs": 10**9}
    config = make_config(**recipe, fetch_threads=2, decode_threads=1, prefetch_batches=1)
    tokenize, ranks = create_tokenizer(config.model), 512
    lanes = config.data.lanes // ranks
    tracemalloc.start()
    began = time.process_time()

    index = ImageIndex.open(huge.url)
    assert len(index) > 10**8
    assert store.nbytes() == huge.index_bytes < 32 * len(index.counts) + 300 * 7_400
    assert len(store.gets) == store.gets.total() == 2, "the manifest and the table, each at once"
    assert store.requests() <= 2 * len(store.gets)

    store.count_anew()
    step = len(index) // config.data.batch_size * 5 // 2
    (batch,) = TrainingData(index, config, tokenize, 5, ranks).batches(step, step + 1)
    assert time.process_time() - began < 60
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(batch.images) == config.data.batch_size // ranks
    assert batch.replaced == 0
    windows = lanes * config.data.window_blocks
    assert lanes <= len(store.gets) <= 2 * windows, "each lane's window, and perhaps its next"
    assert store.requests() == store.gets.total() == len(store.gets), "one request per block"
    ranges = {(path.rpartition("/")[2], start, stop) for path, start, stop in store.gets}
    assert ranges <= blocks_of(index)
    assert peak < len(index), "a byte per sample would be too much"


def blocks_of(index: ImageIndex) -> set[tuple[str, int, int]]:
    """Where each block lies, by the table as it is stored."""
    stored = np.load(io.BytesIO(CountedFileSystem.objects[f"huge/{blocks.NAME}"]))
    names = [file.name for file in index.manifest.of_role("images")]
    return {(names[tar], start, stop) for tar, start, stop, _ in stored.tolist()}


def test_a_step_of_a_hundred_million_samples_is_found_at_once(huge: Huge) -> None:
    tracemalloc.start()
    index = ImageIndex.open(huge.url)
    assert len(index) > 10**8
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
    assert peak < len(index), "a byte per sample would be too much"
    assert len({sample[1:] for sample in seen}) == len(seen)
