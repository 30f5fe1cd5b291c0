"""A curated pool of images with several texts each, and what an order shows of its datasets."""

import io
import itertools
import json
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from PIL import Image

from clipcurate.datasets.images import ImageIndex
from clipcurate.datasets.manifest import load, read_pairs
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.run_plan import RunPlan
from clipcurate.pools import Columns
from clipcurate.training.config import TrainConfig
from clipcurate.training.data import TrainingData
from clipcurate.training.mixing import Mixture
from clipcurate.training.model import create_tokenizer
from clipcurate.training.orders import Order
from clipcurate.training.visits import Mix
from tests.frozen_runs import Run, freeze, match

Shown = tuple[int, int, tuple[str, ...]]
"""Epoch, number of the image, and the texts that it is shown with."""

T = 6.0
MATCHED = EmissionRequest("matched", seed=7, round=2, part_bytes=6_000)
BALANCED = replace(MATCHED, kind="balanced", t=T)
WORDS = ["a dog", "a cat", "dog", "red dog", "a", "new york", "猫", "nothing"]
SETTINGS = {"lanes": 4, "window_blocks": 2, "batch_size": 8, "t_schedule": T, "online": "true"}


def image(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9), (number % 250, number // 250, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def write_pool(path: Path, images: int, broken: frozenset[int] = frozenset()) -> Path:
    """Images of 1 to 3 texts; every text differs."""
    with tarfile.open(path, "w") as tar:
        for number in range(images):
            texts = [
                f"{WORDS[(number * 3 + j * j) % len(WORDS)]} {number} {j}"
                for j in range(1 + number % 3)
            ]
            content = b"" if number in broken else image(number)
            members = {"png": content or b"?", "json": json.dumps({"texts": texts}).encode()}
            for extension, value in members.items():
                member = tarfile.TarInfo(f"{number:04d}.{extension}")
                member.size = len(value)
                tar.addfile(member, io.BytesIO(value))
    return path


def curate(folder: Path, images: int = 90, broken: frozenset[int] = frozenset()) -> Run:
    pool = write_pool(folder / "pool.tar", images, broken)
    plan = RunPlan.make([str(pool)], Columns(text="texts"), 40, None, None)
    return replace(freeze(plan, match(plan), str(folder / "out")), block_bytes=20_000)


def texts_of(url: str) -> list[tuple[str, ...]]:
    """The texts of each image, in the order of the dataset."""
    rows = [row for table in read_pairs(url, load(url)) for row in table.to_pylist()]
    groups = itertools.groupby(rows, lambda row: row["webdataset_key"])
    return [tuple(row["text"] for row in group) for _, group in groups]


class Reader:
    """Looks positions of an order up, each on its own."""

    def __init__(self, url: str, config: TrainConfig) -> None:
        self.index, self.lanes = ImageIndex.open(url), config.data.lanes
        self.order = Order(self.index, config, Mixture((1,), config.seed))
        self.texts = texts_of(url)

    def positions(self, lane: int, first: int, last: int) -> Iterator[Shown]:
        for position in range(first, last):
            window = self.order.window_at(lane, position)
            at = position - window.first
            assert 0 <= at < len(window.block)
            block = int(window.block[at])
            chosen = self.order.chosen(window.epoch, block)
            place = int(window.index[at])
            number = self.index.number(block, int(chosen.images[place]))
            yield window.epoch, number, chosen.texts_of(place, self.texts[number])

    def epochs(self, number: int) -> list[dict[int, tuple[str, ...]]]:
        """What the first epochs show; no image twice."""
        found: list[dict[int, tuple[str, ...]]] = [{} for _ in range(number)]
        for lane in range(self.lanes):
            for epoch, image, texts in itertools.takewhile(
                lambda shown: shown[0] < number, self.positions(lane, 0, 10**9)
            ):
                assert image not in found[epoch]
                found[epoch][image] = texts
        return found


def training_data(
    source: str | Mix, config: TrainConfig, rank: int = 0, size: int = 1
) -> TrainingData:
    index = ImageIndex.open(source) if isinstance(source, str) else source
    return TrainingData(index, config, create_tokenizer(config.model), rank, size)
