"""Online balancing and t schedules: what a thinned dataset shows, by epoch and by step."""

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clipcurate.balancing import critical_t
from clipcurate.datasets.images import ImageIndex
from clipcurate.datasets.manifest import load, read_pairs
from clipcurate.metadata import ALL
from clipcurate.training.config import TrainConfig
from clipcurate.training.data import MASK64
from clipcurate.training.run import train
from clipcurate.training.visits import Mix
from tests.frozen_runs import ENTRIES, Run

from .thinned import MATCHED, SETTINGS, Reader, T, curate, texts_of, training_data

Make = Callable[..., TrainConfig]


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


@pytest.mark.parametrize("block_bytes", [1_000, 20_000])
def test_a_broken_image_is_replaced_by_one_that_the_epoch_shows(
    tmp_path: Path, make_config: Make, block_bytes: int
) -> None:
    """Blocks of one image, too: what takes its place comes from another block then."""
    run = replace(curate(tmp_path, 40, frozenset(range(0, 40, 3))), block_bytes=block_bytes)
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
