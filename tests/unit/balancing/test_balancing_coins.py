from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.balancing import choice_draws, coins
from clipcurate.errors import InvalidInputError

U64 = st.integers(0, (1 << 64) - 1)
Coin = Callable[[tuple[int, int], int, int, int], int]
Draw = Callable[[tuple[int, int], int, int, int, int], int]


def keys(*pairs: tuple[int, int]) -> np.ndarray:
    return np.array(pairs, np.uint64).reshape(-1, 2)


@given(st.lists(st.tuples(U64, U64), max_size=5), U64, U64, U64)
def test_documented_bit_by_bit(
    documented_coin: Coin, pairs: list[tuple[int, int]], seed: int, round_: int, epoch: int
) -> None:
    expected = [documented_coin(pair, seed, round_, epoch) / 2**53 for pair in pairs]
    u = coins(keys(*pairs), seed, round_, epoch)
    assert u.dtype == np.float64
    assert u.tolist() == expected


@pytest.mark.parametrize("numerator", [0, 1, 2**52, 2**53 - 2, 2**53 - 1])
def test_spans_its_whole_range_and_no_more(key_for, numerator: int) -> None:  # type: ignore[no-untyped-def]
    u = coins(keys(key_for(numerator, seed=7)), seed=7)
    assert u.tolist() == [numerator / 2**53]
    assert 0 <= u[0] < 1


def test_does_not_depend_on_order_or_company(random_keys) -> None:  # type: ignore[no-untyped-def]
    some = random_keys(500)
    u = coins(some, 3)
    order = np.random.default_rng(1).permutation(500)
    assert np.array_equal(coins(some[order], 3), u[order])
    assert np.array_equal(np.concatenate([coins(some[:7], 3), coins(some[7:], 3)]), u)
    assert np.array_equal(coins(np.asfortranarray(some), 3), u)


def test_seed_round_and_epoch_each_toss_anew(random_keys) -> None:  # type: ignore[no-untyped-def]
    some = random_keys(1000)
    tosses = [coins(some, *times) for times in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]]
    for i, one in enumerate(tosses):
        for two in tosses[:i]:
            assert not (one == two).any()
            assert abs(np.corrcoef(one, two)[0, 1]) < 0.15


def test_equal_keys_have_equal_coins() -> None:
    assert len(set(coins(keys(*[(1, 2)] * 9), 5).tolist())) == 1
    assert len(set(coins(keys((1, 2), (2, 1), (0, 3), (3, 0)), 5).tolist())) == 4


def test_is_uniform(random_keys) -> None:  # type: ignore[no-untyped-def]
    n, bins = 100_000, 50
    u = coins(random_keys(n), 11)
    chi2 = ((np.histogram(u, bins, (0, 1))[0] - n / bins) ** 2).sum() / (n / bins)
    assert abs(chi2 - (bins - 1)) < 4 * np.sqrt(2 * (bins - 1))
    counters = coins(keys(*[(0, i) for i in range(n)]), 11)  # keys that differ in a few bits only
    assert abs(counters.mean() - 0.5) < 4 / np.sqrt(12 * n)


@pytest.mark.parametrize("name", ["seed", "round", "epoch"])
@pytest.mark.parametrize("value", [-1, 1 << 64])
def test_out_of_range_is_refused(name: str, value: int) -> None:
    tosses = {"seed": 0} | {name: value}
    with pytest.raises(InvalidInputError, match=f"{name} {value}"):
        coins(keys((0, 0)), **tosses)
    with pytest.raises(InvalidInputError, match=f"{name} {value}"):
        choice_draws(keys((0, 0)), np.zeros(1, np.int32), **tosses)


@given(st.lists(st.tuples(U64, U64, st.integers(0, 2**31 - 1)), max_size=5), U64, U64, U64)
def test_draws_are_documented_bit_by_bit(
    documented_draw: Draw,
    texts: list[tuple[int, int, int]],
    seed: int,
    round_: int,
    epoch: int,
) -> None:
    expected = [documented_draw(text[:2], text[2], seed, round_, epoch) for text in texts]
    indexes = np.array([index for _, _, index in texts], np.int32)
    pairs = keys(*[text[:2] for text in texts])
    assert choice_draws(pairs, indexes, seed, round_, epoch).tolist() == expected


def test_draws_are_independent_of_coins_and_of_each_other(random_keys) -> None:  # type: ignore[no-untyped-def]
    some, zero = random_keys(20_000), np.zeros(20_000, np.int32)
    scale = 2.0**-64
    columns = [coins(some, 5)]
    columns += [choice_draws(some, zero, *times) * scale for times in [(5,), (6,), (5, 1)]]
    columns += [choice_draws(some, zero + 1, 5) * scale]
    correlations = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(correlations).max() < 4 / np.sqrt(len(some))


@pytest.mark.parametrize("texts", [2, 3, 5])
def test_each_of_an_images_texts_has_the_smallest_draw_equally_often(texts: int) -> None:
    images = 20_000
    same = keys(*[(7, image) for image in range(images) for _ in range(texts)])  # repeated texts
    indexes = np.tile(np.arange(texts, dtype=np.int32), images)
    winners = choice_draws(same, indexes, 3).reshape(images, texts).argmin(1)
    expected = images / texts
    chi2 = ((np.bincount(winners, minlength=texts) - expected) ** 2).sum() / expected
    assert abs(chi2 - (texts - 1)) < 4 * np.sqrt(2 * (texts - 1))
