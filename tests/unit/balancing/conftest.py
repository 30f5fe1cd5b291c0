from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from clipcurate.matching import Matches

MakeMatches = Callable[[list[list[int]]], Matches]
KeyFor = Callable[..., tuple[int, int]]
MASK = (1 << 64) - 1


@pytest.fixture(scope="session")
def csr() -> MakeMatches:
    """Turn rows of entry ids into matches."""

    def make(rows: list[list[int]]) -> Matches:
        offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
        return Matches(offsets, np.array([i for row in rows for i in row], np.uint32))

    return make


@pytest.fixture(scope="session")
def random_keys() -> Callable[[int], npt.NDArray[np.uint64]]:
    """Return n distinct coin keys."""

    def make(n: int) -> npt.NDArray[np.uint64]:
        return np.random.default_rng(0).integers(0, 1 << 64, (n, 2), np.uint64, endpoint=False)

    return make


def mix(x: int) -> int:
    """SplitMix64's finaliser, in plain integers."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def unmix(x: int) -> int:
    x = _unshift(x, 31) * pow(0x94D049BB133111EB, -1, 1 << 64) & MASK
    x = _unshift(x, 27) * pow(0xBF58476D1CE4E5B9, -1, 1 << 64) & MASK
    return _unshift(x, 30)


def _unshift(x: int, bits: int) -> int:
    out = x
    for _ in range(64 // bits + 1):
        out = x ^ (out >> bits)
    return out


Tosses = tuple[int, ...]
"""Seed, round, epoch; and 1 where a text is chosen."""


def state_of(tosses: Tosses) -> int:
    state = 0
    for value in tosses:
        state = mix(state ^ (value + 0x9E3779B97F4A7C15 & MASK))
    return state


@pytest.fixture(scope="session")
def documented_coin() -> Callable[[tuple[int, int], int, int, int], int]:
    """Return u · 2**53 as the module's docstring has it, in plain integers."""

    def coin(key: tuple[int, int], *tosses: int) -> int:
        return mix(mix(state_of(tosses) ^ key[0]) ^ key[1]) >> 11

    return coin


@pytest.fixture(scope="session")
def documented_draw() -> Callable[[tuple[int, int], int, int, int, int], int]:
    """Return d of a key and a text index as the module's docstring has it, in plain integers."""

    def draw(key: tuple[int, int], text_index: int, *tosses: int) -> int:
        return mix(mix(mix(state_of((*tosses, 1)) ^ key[0]) ^ key[1]) ^ text_index)

    return draw


@pytest.fixture(scope="session")
def key_for() -> KeyFor:
    """Return a coin key whose coin is the given numerator over 2**53, at round and epoch 0."""

    def find(numerator: int, seed: int = 0, high: int = 12345) -> tuple[int, int]:
        return high, unmix(numerator << 11) ^ mix(state_of((seed, 0, 0)) ^ high)

    return find
