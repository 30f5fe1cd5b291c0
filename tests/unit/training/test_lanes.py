from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipcurate.training.lanes import EqualEpochs, Lanes, UnequalEpochs, Window
from clipcurate.training.order import I64

Counts = st.lists(st.integers(1, 9), min_size=1, max_size=12)


def lanes_of(counts: list[int], lanes: int, window: int = 2, seed: int = 0) -> Lanes:
    return Lanes(EqualEpochs(np.array(counts, np.int64)), lanes, window, seed)


def visits(order: Lanes, lane: int, first: int, last: int) -> list[tuple[int, int, int]]:
    """(epoch, block, index) of each position, each looked up on its own."""
    found = []
    for position in range(first, last):
        window = order.window_at(lane, position)
        at = position - window.first
        assert 0 <= at < len(window.block)
        found.append((window.epoch, int(window.block[at]), int(window.index[at])))
    return found


def samples_of(counts: list[int]) -> list[tuple[int, int]]:
    return [(block, index) for block, count in enumerate(counts) for index in range(count)]


@given(counts=Counts, lanes=st.integers(1, 9), window=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_the_lanes_show_each_sample_once_per_epoch(
    counts: list[int], lanes: int, window: int, seed: int
) -> None:
    order, epochs = lanes_of(counts, lanes, window, seed), 3
    seen = Counter(
        visit
        for lane in range(lanes)
        for visit in visits(order, lane, 0, order.epoch_start(lane, epochs))
    )
    expected = {(epoch, *sample) for epoch in range(epochs) for sample in samples_of(counts)}
    assert set(seen) == expected
    assert set(seen.values()) == {1}


@given(counts=st.lists(st.integers(0, 2), min_size=1, max_size=9).map(lambda c: [*c, 1]))
@settings(max_examples=60)
def test_the_blocks_after_one_are_those_of_the_epochs_stream(counts: list[int]) -> None:
    order, epoch = lanes_of(counts, lanes=1, window=1), 1
    first = order.epoch_start(0, epoch)
    shown = visits(order, 0, first, order.epoch_start(0, epoch + 1))
    stream = list(dict.fromkeys(block for _, block, _ in shown))
    for place, block in enumerate(stream):
        others = stream[place + 1 :] + stream[:place]
        assert order.following(epoch, block, 3).tolist() == others[:3]
        assert order.following(epoch, block, 99).tolist() == others


@given(
    epochs=st.lists(st.lists(st.integers(0, 4), min_size=5, max_size=5), min_size=1, max_size=4),
    lanes=st.integers(1, 9),
    first=st.integers(0, 3),
)
@settings(max_examples=60)
def test_epochs_may_show_different_samples(epochs: list[list[int]], lanes: int, first: int) -> None:
    """As above; every epoch shows at least one sample, and blocks may be left out."""
    counts = [np.array([*blocks, 1]) for blocks in epochs]
    order = Lanes(UnequalEpochs(lambda e: counts[(e - first) % len(counts)], first), lanes, 2, 0)
    last, seen = first + len(counts), Counter[tuple[int, int, int]]()
    for lane in range(lanes):
        seen += Counter(visits(order, lane, 0, order.epoch_start(lane, last)))
    assert seen == Counter(
        (first + epoch, *sample)
        for epoch, blocks in enumerate(counts)
        for sample in samples_of(blocks.tolist())
    )


@given(samples=st.integers(1, 10**11), lanes=st.integers(1, 2048), epoch=st.integers(0, 99))
def test_lanes_keep_within_one_sample_and_know_their_epoch(
    samples: int, lanes: int, epoch: int
) -> None:
    order = lanes_of([samples], lanes)
    starts = [order.epoch_start(lane, epoch) for lane in range(lanes)]
    assert sum(starts) == samples * epoch
    assert max(starts) - min(starts) <= 1
    for lane in {0, lanes // 2, lanes - 1}:
        start, stop = order.epoch_start(lane, epoch), order.epoch_start(lane, epoch + 1)
        if start < stop:
            assert {order.epoch_at(lane, start), order.epoch_at(lane, stop - 1)} == {epoch}


def test_the_remainder_carries_over() -> None:
    """26 samples, 4 lanes, steps of 8: step 3 takes the last 2 of epoch 0 and 6 of epoch 1."""
    counts = [7, 9, 10]
    order = lanes_of(counts, 4)
    epochs = [
        sorted(v[0] for lane in range(4) for v in visits(order, lane, step * 2, step * 2 + 2))
        for step in range(4)
    ]
    assert epochs == [[0] * 8] * 3 + [[0] * 2 + [1] * 6]
    whole = Counter(v for lane in range(4) for v in visits(order, lane, 0, 26))
    assert whole == Counter((e, *s) for e in range(4) for s in samples_of(counts))


@given(counts=Counts, lanes=st.integers(1, 4), window=st.integers(1, 4))
@settings(max_examples=60)
def test_windows_follow_each_other_with_at_most_k_blocks(
    counts: list[int], lanes: int, window: int
) -> None:
    order = lanes_of(counts, lanes, window)
    position = 0
    while position < 3 * sum(counts) // lanes:
        found = order.window_at(0, position)
        assert found.first == position
        assert len(found.blocks) <= window
        assert set(found.block.tolist()) == set(found.blocks.tolist())
        position = found.stop


def spearman(values: I64) -> float:
    ranks = np.argsort(np.argsort(values, kind="stable"))
    return float(np.corrcoef(ranks, np.arange(len(values)))[0, 1])


def whole_lane(order: Lanes, lane: int, epoch: int) -> list[Window]:
    position, windows = order.epoch_start(lane, epoch), []
    while position < order.epoch_start(lane, epoch + 1):
        windows.append(order.window_at(lane, position))
        position = windows[-1].stop
    return windows


def test_blocks_and_windows_are_well_shuffled() -> None:
    """Of independent orders of n values, rank correlation has a deviation of 1/√(n-1)."""
    blocks, count, lanes = 2_000, 40, 4
    order = lanes_of([count] * blocks, lanes, window=5, seed=3)
    first = np.concatenate([w.blocks for lane in range(lanes) for w in whole_lane(order, lane, 0)])
    second = np.concatenate([w.blocks for lane in range(lanes) for w in whole_lane(order, lane, 1)])
    _, kept = np.unique(first, return_index=True)
    assert len(kept) == blocks
    assert abs(spearman(first)) < 4 / blocks**0.5
    places = {block: place for place, block in enumerate(first.tolist())}
    assert abs(spearman(np.array([places[b] for b in second.tolist()]))) < 4 / blocks**0.5
    for window in whole_lane(order, 1, 0)[1:4]:
        assert abs(spearman(window.index)) < 4 / len(window.index) ** 0.5
        neighbours = (window.block[1:] == window.block[:-1]).mean()
        assert neighbours == pytest.approx(1 / 5, abs=4 * (0.16 / len(window.block)) ** 0.5)


def test_segments_of_one_block_are_drawn_from_all_of_it() -> None:
    """So that a small dataset is shuffled as a whole: every lane's share is random."""
    order = lanes_of([4_000], 4)
    (epoch_0,), (epoch_1,) = whole_lane(order, 2, 0), whole_lane(order, 2, 1)
    assert abs(epoch_0.index.mean() - 2_000) < 4 * 1_155 / 1_000**0.5
    common = len(set(epoch_0.index.tolist()) & set(epoch_1.index.tolist()))
    assert common == pytest.approx(250, abs=60)


def test_first_windows_differ_so_that_lanes_change_at_different_times() -> None:
    order = lanes_of([10] * 4_000, 100, window=4)
    sizes = Counter(len(order.window_at(lane, 0).blocks) for lane in range(100))
    assert set(sizes) == {1, 2, 3, 4}
    assert min(sizes.values()) > 10


def test_seeds_and_datasets_of_a_mixture_order_differently() -> None:
    counts = np.full(500, 10, np.int64)
    keys = [(0, 0), (1, 0), (0, 1)]
    orders = [Lanes(EqualEpochs(counts), 1, 500, *key).window_at(0, 0).blocks for key in keys]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert (orders[a] == orders[b]).mean() < 0.03
