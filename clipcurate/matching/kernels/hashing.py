"""Keys of words, hashes, and the perfect hash that gives every key a slot of its own."""

import numpy as np

from clipcurate.kernels.compiling import inlined, kernel
from clipcurate.kernels.machine import load8, multiply_fold, multiply_high

ONE = np.uint64(1)
_K0, _K1, _K2, _K3 = (
    np.uint64(constant)  # odd, as many ones as zeros: wyhash's
    for constant in (0xA0761D6478BD642F, 0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3, 0x589965CC75374CC3)
)
_8, _16, _32, _56 = np.uint64(8), np.uint64(16), np.uint64(32), np.uint64(56)

INLINE = np.uint64(15)
"""Bytes of the longest word that its key holds whole; keys of longer ones are hashes."""

_LONG = np.uint64(0xFF << 56)
NO_WORD = np.uint64(0xFE << 56)
"""Upper half of a key that no word has."""

_LOW = np.array([(1 << 8 * min(n, 8)) - 1 for n in range(16)], np.uint64)
_HIGH = np.array([(1 << 8 * max(n - 8, 0)) - 1 for n in range(16)], np.uint64)

_LAST_PILOT = 0xFFFF


@inlined
def short_key(data, start, length):
    """Return the key of a word of at most INLINE bytes: the bytes, the length in the top byte."""
    low = load8(data, start) & _LOW[length]
    return low, (load8(data, start + _8) & _HIGH[length]) | (length << _56)


@kernel
def long_key(data, start, length, seed):
    """Return the key of a longer word: a hash, marked in the top byte. Verify the bytes."""
    a, b = seed ^ _K3, (length ^ seed) * _K3  # both factors: a zero one must not stay so
    end, place = start + length, start
    while place + _16 <= end:
        a = multiply_fold(a ^ load8(data, place), load8(data, place + _8) ^ b ^ _K1)
        b += a * _K2
        place += _16
    a = multiply_fold(a ^ load8(data, end - _16), load8(data, end - _8) ^ b ^ _K1)
    return a, (multiply_fold(a ^ b, _K2) >> _8) | _LONG


@inlined
def word_hash(low, high, seed):
    """Return the hash of a word's key."""
    return multiply_fold(low ^ seed ^ _K0, high ^ _K1)


@inlined
def child_hash(key, seed):
    """Return the hash of the key of a trie's edge; no two keys have the same."""
    mixed = (key ^ seed) * _K0
    return mixed ^ (mixed >> _32)


@inlined
def slot_of(hashed, pilots, slots):
    """Return the slot of a key that is in the table; of another one, any slot.

    The number of pilots is a power of two.
    """
    pilot = np.uint64(pilots[hashed & np.uint64(pilots.size - 1)])
    return _slot(hashed, pilot, slots)


@inlined
def _slot(hashed, pilot, slots):
    return multiply_high(hashed * (_K2 + pilot + pilot), slots)


@kernel
def find_pilots(hashes, pilots, slots, places):
    """Choose each bucket's pilot so that no two keys share a slot; fill `places` with the slots.

    Buckets go by size, the largest first, and each takes the first pilot that puts all its keys
    into free slots (PTHash, SIGIR 2021, section 3). Returns False if one finds none: two hashes are
    equal, or luck was bad; another seed will do.
    """
    buckets = np.empty(hashes.size, np.int64)
    for key in range(hashes.size):
        buckets[key] = hashes[key] & np.uint64(pilots.size - 1)
    sizes = np.bincount(buckets, minlength=pilots.size)
    keys, ends = np.argsort(buckets, kind="mergesort"), np.cumsum(sizes)
    taken = np.zeros(slots, np.bool_)
    for bucket in np.argsort(-sizes, kind="mergesort"):
        mine = keys[ends[bucket] - sizes[bucket] : ends[bucket]]
        for pilot in range(_LAST_PILOT + 1):
            if _fits(hashes, mine, np.uint64(pilot), np.uint64(slots), taken, places):
                pilots[bucket] = pilot
                break
        else:
            return False
    return True


@kernel
def _fits(hashes, keys, pilot, slots, taken, places):
    """Take the keys' slots under a pilot if all are free; else take none."""
    for done in range(keys.size):
        slot = _slot(hashes[keys[done]], pilot, slots)
        if taken[slot]:
            for back in range(done):
                taken[places[keys[back]]] = False
            return False
        taken[slot] = True
        places[keys[done]] = slot
    return True
