"""Keyed choices: pure functions of the seed. Nothing is drawn, so nothing is saved to resume."""

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# What a key is for: equal (seed, epoch, image) must not give equal numbers to different uses.
TEXT, CROP, EVALUATION, BLOCKS, BLOCK_ORDER, WINDOWS, WINDOW_ORDER, MIXTURE = range(1, 9)

# An evaluation sample comes from at least so many blocks, if there are.
EVALUATION_BLOCKS = 16
MASK64 = 2**64 - 1
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def text_choice(num_texts: int, seed: int, epoch: int, image: int) -> int:
    """Return which of an image's texts a visit uses."""
    return fold(seed, TEXT, epoch, image) % num_texts


def crop_uniforms(seed: int, epoch: int, image: int, count: int) -> npt.NDArray[np.float64]:
    """Return the `count` numbers in [0, 1) behind the crop of a visit."""
    key = fold(seed, CROP, epoch, image)
    bits = _mix(np.uint64(key) + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def evaluation_sample(counts: I64, seed: int, size: int) -> I64:
    """Return `size` distinct sample numbers (all, if there are fewer), ascending.

    Args:
        counts: samples per block.
        seed: of the choice.
        size: how many.

    They come from few blocks, so that reading them does not take a request each.
    """
    blocks = shuffled(len(counts), fold(seed, EVALUATION))
    enough = int(np.searchsorted(np.cumsum(counts[blocks]), size)) + 1
    ends = np.cumsum(counts)
    chosen = blocks[: max(enough, EVALUATION_BLOCKS)].tolist()
    numbers = np.concatenate([np.arange(ends[b] - counts[b], ends[b]) for b in chosen])
    return np.sort(numbers[shuffled(len(numbers), fold(seed, EVALUATION, 1))[:size]])


def shuffled(n: int, key: int) -> I64:
    """Return 0 … n-1 in the order of their hashes under `key`, int64 of shape (n,).

    `_mix` is a bijection, so no two hashes are equal and the order is the same everywhere.
    """
    return np.argsort(_mix(np.uint64(key) + np.arange(n, dtype=np.uint64) * GOLDEN))


def fold(*numbers: int) -> int:
    """Hash non-negative integers to 64 bits."""
    state = 0
    for number in numbers:
        state = _mix_one((state ^ number) + int(GOLDEN))
    return state


def _mix(values: U64) -> U64:
    """Apply the finaliser of splitmix64 (Steele, Lea & Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _mix_one(value: int) -> int:
    """As `_mix`, for one Python integer."""
    value &= MASK64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK64
    return value ^ (value >> 31)
