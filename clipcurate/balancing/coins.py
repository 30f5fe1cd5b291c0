"""One uniform number per pair, keyed instead of drawn, so that anyone can recompute it.

With 64-bit unsigned arithmetic that wraps around:

    mix(x):  x ^= x >> 30; x *= 0xBF58476D1CE4E5B9; x ^= x >> 27; x *= 0x94D049BB133111EB;
             return x ^ (x >> 31)                                  (SplitMix64's finaliser)
    s = 0;   for v in (seed, round, epoch): s = mix(s ^ (v + 0x9E3779B97F4A7C15))
    u = (mix(mix(s ^ high) ^ low) >> 11) * 2**-53

where high and low are the halves of the pair's coin key, xxh3_128(uid, NUL, text) with the uid as
32 lower-case hex digits and the text as UTF-8.

Where one of an image's texts is chosen, it is the one with the smallest d, the first of equal ones:

    s = 0;   for v in (seed, round, epoch, 1): s = mix(s ^ (v + 0x9E3779B97F4A7C15))
    d = mix(mix(mix(s ^ high) ^ low) ^ text index)

and where an image has several rows of a pool,

    d = mix(mix(mix(mix(mix(s ^ high) ^ low) ^ shard) ^ row) ^ text index)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from clipcurate.errors import InvalidInputError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def coins(
    coin_keys: npt.NDArray[np.uint64],
    seed: int,
    round: int = 0,  # noqa: A002 - the method's own word
    epoch: int = 0,
) -> npt.NDArray[np.float64]:
    """Return each pair's u, uniform on [0, 1) in steps of 2**-53.

    Args:
        coin_keys: uint64, shape (n, 2), high half first.
        seed: 0 to 2**64 - 1.
        round: 0 for a first balancing; one more each time a balanced pool is balanced again.
        epoch: 0 for a dataset; the epoch for online balancing.

    Raises:
        InvalidInputError: seed, round or epoch is out of range.
    """
    state = _state(seed=seed, round=round, epoch=epoch)
    bits = _mix(_mix(state ^ coin_keys[:, 0]) ^ coin_keys[:, 1])
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def choice_draws(
    coin_keys: npt.NDArray[np.uint64],
    text_index: npt.NDArray[np.int32],
    seed: int,
    round: int = 0,  # noqa: A002 - the method's own word
    epoch: int = 0,
    *,
    places: Sequence[npt.NDArray[Any]] = (),
) -> npt.NDArray[np.uint64]:
    """Return each text's d: of an image's texts, each has the smallest one equally likely.

    Independent of the coins. Texts that an image repeats differ in their index, so each repeat
    has a draw of its own, as in a list that is chosen from; repeats in other rows differ in these.

    Args:
        coin_keys: uint64, shape (n, 2), high half first.
        text_index: which text of its record, shape (n,).
        seed: as for `coins`.
        round: as for `coins`.
        epoch: as for `coins`.
        places: where an image has several rows, each text's shard (number in the plan) and row,
            integers of shape (n,).

    Raises:
        InvalidInputError: seed, round or epoch is out of range.
    """
    state = _state(seed=seed, round=round, epoch=epoch, purpose=1)
    draws = _mix(_mix(state ^ coin_keys[:, 0]) ^ coin_keys[:, 1])
    for numbers in (*places, text_index):
        draws = _mix(draws ^ numbers.astype(np.uint64))
    return draws


def _state(**values: int) -> npt.NDArray[np.uint64]:
    state = np.zeros(1, np.uint64)
    for name, value in values.items():
        if not 0 <= value < 1 << 64:
            raise InvalidInputError(f"{name} {value} is not between 0 and 2**64 - 1")
        state = _mix(state ^ (np.array([value], np.uint64) + _GOLDEN))
    return state


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))
