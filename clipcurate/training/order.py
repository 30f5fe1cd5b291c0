"""Which sample comes when: pure functions of the seed, so that a cursor is one integer.

The epochs are concatenated: global position p is position p mod n of epoch p div n, and step s
takes positions [s·B, (s+1)·B). Nothing is drawn, so nothing has to be saved to resume.
"""

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

# What a key is for: equal (seed, epoch, image) must not give equal numbers to different uses.
ORDER, TEXT, CROP, EVALUATION, BLOCKS, BLOCK_ORDER, WINDOWS, WINDOW_ORDER, MIXTURE = range(1, 10)

# An even number of rounds; 4 already make a Feistel network pseudo-random, 8 leave a margin.
ROUNDS = 8
MASK64 = 2**64 - 1
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def batch_samples(num_samples: int, batch_size: int, seed: int, step: int) -> tuple[I64, I64]:
    """Return the sample numbers and epochs of step `step`, both int64 of shape (batch_size,).

    Every epoch is a permutation of all samples; a batch may span two of them.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size, dtype=np.int64)
    epochs = positions // num_samples
    samples = np.empty_like(positions)
    for epoch in np.unique(epochs):
        inside = epochs == epoch
        samples[inside] = permuted(
            num_samples, fold(seed, ORDER, int(epoch)), positions[inside] % num_samples
        )
    return samples, epochs


def text_choice(num_texts: int, seed: int, epoch: int, image: int) -> int:
    """Return which of an image's texts a visit uses."""
    return fold(seed, TEXT, epoch, image) % num_texts


def crop_uniforms(seed: int, epoch: int, image: int, count: int) -> npt.NDArray[np.float64]:
    """Return the `count` numbers in [0, 1) behind the crop of a visit."""
    key = fold(seed, CROP, epoch, image)
    bits = _mix(np.uint64(key) + np.arange(1, count + 1, dtype=np.uint64) * GOLDEN)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def evaluation_sample(num_samples: int, seed: int, size: int) -> I64:
    """Return min(size, num_samples) distinct sample numbers, for an evaluation."""
    positions = np.arange(min(size, num_samples), dtype=np.int64)
    return permuted(num_samples, fold(seed, EVALUATION), positions)


def permuted(n: int, key: int, positions: I64) -> I64:
    """Return where the permutation of 0 … n-1 that `key` names sends `positions`.

    A Feistel network over the next even number of bits, walked until the value is below n: constant
    memory, any position at once. Luby & Rackoff 1988; Black & Rogaway 2002 for the walk.
    """
    half_bits = max(1, -(-(n - 1).bit_length() // 2))
    keys = [np.uint64(fold(key, i)) for i in range(ROUNDS)]
    values = _feistel(positions.astype(np.uint64), half_bits, keys)
    while (outside := values >= n).any():
        values[outside] = _feistel(values[outside], half_bits, keys)
    return values.astype(np.int64)


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


def _feistel(values: U64, half_bits: int, keys: list[np.uint64]) -> U64:
    shift, mask = np.uint64(half_bits), np.uint64(2**half_bits - 1)
    left, right = values >> shift, values & mask
    for key in keys:
        left, right = right, left ^ (_mix(right ^ key) & mask)
    return (left << shift) | right


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
