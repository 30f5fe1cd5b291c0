"""Online balancing and t schedules: what a thinned dataset shows, by epoch and by step."""

import io
import itertools
import json
import math
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from clipcurate.balancing import critical_t
from clipcurate.datasets.images import ImageIndex
from clipcurate.datasets.manifest import load, read_pairs
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.run_plan import RunPlan
from clipcurate.errors import InvalidInputError, TrainingError
from clipcurate.metadata import ALL
from clipcurate.pools import Columns
from clipcurate.training.config import TrainConfig
from clipcurate.training.data import MASK64, TrainingData
from clipcurate.training.mixing import Mixture
from clipcurate.training.model import create_tokenizer
from clipcurate.training.orders import Order
from clipcurate.training.run import train
from clipcurate.training.visits import Mix
from tests.frozen_runs import ENTRIES, Run, freeze, match

Make = Callable[..., TrainConfig]
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


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return curate(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def matched(run: Run) -> str:
    return run.emit(MATCHED)


@pytest.fixture(scope="module")
def balanced(run: Run) -> str:
    return run.emit(BALANCED)


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


def alg_1(run: Run, url: str, t: float) -> dict[str, float]:
    """How likely each text is kept, by one coin per entry as the paper's Algorithm 1 tosses it."""
    rows = [row for table in read_pairs(url, load(url)) for row in table.to_pylist()]
    every = [f" {text} " for text in all_texts(run)]
    counts = {entry: sum(f" {entry} " in text for text in every) for entry in ENTRIES}
    found = {}
    for row in rows:
        entries = [entry for entry in ENTRIES if f" {entry} " in f" {row['text']} "]
        found[row["text"]] = 1 - math.prod(1 - min(1, t / counts[entry]) for entry in entries)
    return found


def all_texts(run: Run) -> list[str]:
    raw = run.emit(replace(MATCHED, kind="raw"))
    return [row["text"] for table in read_pairs(raw, load(raw)) for row in table.to_pylist()]


def test_each_epoch_draws_coins_with_the_papers_law(
    run: Run, matched: str, make_config: Make
) -> None:
    epochs, q = 200, alg_1(run, matched, T)
    seen = Reader(matched, make_config(**SETTINGS)).epochs(epochs)
    kept = [{text for texts in epoch.values() for text in texts} for epoch in seen]
    assert all(all(texts for texts in epoch.values()) for epoch in seen)
    drawn = np.array([[text in epoch for text in q] for epoch in kept], np.float64)
    expected = np.array(list(q.values()))
    deviation = np.sqrt(expected * (1 - expected) / epochs)
    assert (np.abs(drawn.mean(axis=0) - expected) <= 4 * deviation + 1e-12).all()
    assert (expected < 0.9).sum() > 50
    # Epochs are independent: a text's fates in neighbouring ones do not go together.
    some = expected < 1
    apart = (drawn[:, some] - expected[some]) / np.sqrt(expected[some] * (1 - expected[some]))
    assert abs((apart[1:] * apart[:-1]).mean()) < 4 / apart[1:].size ** 0.5


def test_the_first_epoch_shows_the_balanced_dataset_of_the_same_coins(
    matched: str, balanced: str, make_config: Make
) -> None:
    (epoch,) = Reader(matched, make_config(**SETTINGS)).epochs(1)
    assert sorted(epoch.values()) == sorted(texts_of(balanced))
    assert len(epoch) < 0.8 * len(texts_of(matched))
    stored = {**SETTINGS, "online": "false"}
    for again in Reader(matched, make_config(**stored)).epochs(3):
        assert again == epoch


def test_a_balanced_dataset_shows_all_of_it_at_its_own_t(balanced: str, make_config: Make) -> None:
    whole = Reader(balanced, make_config(lanes=4, batch_size=8)).epochs(2)
    thinned = Reader(balanced, make_config(**SETTINGS | {"online": "false"})).epochs(2)
    assert thinned == whole == [dict(enumerate(texts_of(balanced)))] * 2


def training_data(
    source: str | Mix, config: TrainConfig, rank: int = 0, size: int = 1
) -> TrainingData:
    index = ImageIndex.open(source) if isinstance(source, str) else source
    return TrainingData(index, config, create_tokenizer(config.model), rank, size)


SCHEDULE = f"0:2,7:{T},20:3"


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("schedule", [str(T), SCHEDULE])
@pytest.mark.parametrize("mixed", [False, True])
def test_a_step_is_the_same_on_any_number_of_ranks_and_after_any_resume(
    run: Run, matched: str, make_config: Make, world_size: int, schedule: str, mixed: bool
) -> None:
    urls = [matched, run.emit(replace(MATCHED, seed=8))] if mixed else [matched]
    mix = Mix(tuple(map(ImageIndex.open, urls)), (3, 2) if mixed else (1,))
    config = make_config(**SETTINGS | {"t_schedule": schedule})
    whole = [batch.digest for batch in training_data(mix, config).batches(0, 30)]
    assert len(set(whole)) == 30
    for first in (0, 3, 7, 8, 20, 29):
        ranks = [training_data(mix, config, rank, world_size) for rank in range(world_size)]
        steps = zip(*(rank.batches(first, 30) for rank in ranks), strict=True)
        assert [sum(b.digest for b in step) & MASK64 for step in steps] == whole[first:]


@pytest.mark.parametrize("online", ["false", "true"])
def test_a_schedule_shows_what_the_t_of_the_step_keeps(
    run: Run, matched: str, make_config: Make, online: str
) -> None:
    settings = SETTINGS | {"online": online}
    reader = Reader(matched, make_config(**settings | {"t_schedule": SCHEDULE}))
    edges, thresholds, first_epoch = [0, 7, 20, 60], [2.0, T, 3.0], 0
    for (start, stop), t in zip(itertools.pairwise(edges), thresholds, strict=True):
        shown = [s for v in range(4) for s in reader.positions(v, start * 2, stop * 2)]
        epochs = sorted({epoch for epoch, _, _ in shown})
        assert epochs == list(range(first_epoch, epochs[-1] + 1))  # a new one at each change
        kept = kept_by_epoch(run, t, epochs, online == "true")
        for epoch in epochs:
            mine = [(number, texts) for e, number, texts in shown if e == epoch]
            assert len(dict(mine)) == len(mine)
            assert set(mine) <= kept[epoch]
            assert set(mine) == kept[epoch] or epoch == epochs[-1]
        first_epoch = epochs[-1] + 1


def kept_by_epoch(
    run: Run, t: float, epochs: list[int], online: bool
) -> dict[int, set[tuple[int, tuple[str, ...]]]]:
    """What each epoch keeps, by the critical t that its coins give."""
    found: dict[int, set[tuple[int, tuple[str, ...]]]] = {}
    for epoch in epochs:
        images: list[tuple[str, ...]] = []
        for index in run.indexes:
            critical = critical_t(
                index.matches, run.counts[ALL], index.coin_keys, 7, 2, epoch if online else 0
            )
            hits = np.isfinite(critical)
            texts = np.array(all_texts_of(run, index), object)
            for row in np.unique(index.row[hits]):
                mine = hits & (index.row == row)
                images.append(tuple(texts[mine & (critical <= t)]))
        found[epoch] = {(number, texts) for number, texts in enumerate(images) if texts}
    return found


def all_texts_of(run: Run, index: Any) -> list[str]:
    """The texts of a task's pairs, in order."""
    start = sum(len(one) for one in itertools.takewhile(lambda one: one is not index, run.indexes))
    return all_texts(run)[start : start + len(index)]


def test_a_broken_image_is_replaced_by_one_that_the_epoch_shows(
    tmp_path: Path, make_config: Make
) -> None:
    run = curate(tmp_path, 40, frozenset(range(0, 40, 3)))
    url, config = run.emit(replace(MATCHED, part_bytes=1 << 20)), make_config(**SETTINGS)
    allowed = [set(epoch) for epoch in Reader(url, config).epochs(3)]
    numbers = [int(texts[0].split()[-2]) for texts in texts_of(url)]
    reader, steps = Reader(url, config), 3
    batches = list(training_data(url, config).batches(0, steps))
    assert sum(batch.replaced for batch in batches) > 0
    for step, batch in enumerate(batches):
        epochs = {e for v in range(4) for e, _, _ in reader.positions(v, 2 * step, 2 * step + 2)}
        names = {numbers[image] for epoch in epochs for image in allowed[epoch]}
        shown = {int(pixels[0, 0, 0]) + 250 * int(pixels[0, 0, 1]) for pixels in batch.images}
        assert shown <= names
        assert not any(number % 3 == 0 for number in shown)


def test_killed_and_resumed_gives_the_same_losses(
    tmp_path: Path, matched: str, make_config: Make
) -> None:
    config = make_config(**SETTINGS | {"seen_pairs": 80, "t_schedule": SCHEDULE})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(matched, config, str(whole))

    def kill(progress: Any) -> None:
        if progress.step in (5, 9):
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            train(matched, config, str(parts), on_progress=kill)
    assert train(matched, config, str(parts), on_progress=lambda _: None)["finished"]

    def losses(folder: Path) -> list[float]:
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines]

    assert len(losses(whole)) == 10
    assert losses(parts) == losses(whole)


@pytest.mark.parametrize(
    ("request_", "settings", "message"),
    [
        (BALANCED, {}, "is a balanced dataset; new coins each epoch"),
        (replace(MATCHED, kind="raw"), {}, "is a raw dataset; new coins each epoch"),
        (replace(MATCHED, semantics="record"), {}, "semantics record; online balancing"),
        (BALANCED, {"online": "false", "t_schedule": T + 1}, "t = 7 would show pairs"),
        (BALANCED, {"online": "false", "t_schedule": f"0:1,5:{T + 1}"}, "its own is 6"),
        (
            replace(BALANCED, t=None, size=40),
            {"online": "false", "t_schedule": 1e6},
            "would show pairs that this dataset does not hold",
        ),
    ],
)
def test_what_cannot_be_thinned_is_refused(
    run: Run, make_config: Make, request_: EmissionRequest, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        training_data(run.emit(request_), make_config(**SETTINGS | settings))


def test_pairs_are_counted_in_pieces(
    matched: str, make_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(**SETTINGS)
    whole = Reader(matched, config).epochs(5)
    monkeypatch.setattr("clipcurate.training.thinning.CHUNK", 10)
    reader = Reader(matched, config)
    assert len(reader.order._selection._edges) > 4
    assert reader.epochs(5) == whole


def test_a_threshold_that_keeps_nothing_stops_the_training(matched: str, make_config: Make) -> None:
    for online in ("true", "false"):
        config = make_config(**SETTINGS | {"t_schedule": 1e-9, "online": online})
        with pytest.raises(TrainingError, match="epoch 0 would show no image"):
            next(training_data(matched, config).batches(0, 1))
