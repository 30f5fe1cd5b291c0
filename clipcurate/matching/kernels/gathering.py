"""From hits in any order to compressed sparse rows: by text, ascending, distinct."""

import numpy as np

from clipcurate.kernels.compiling import inlined, kernel
from clipcurate.kernels.machine import count_bits, equal16, less16
from clipcurate.matching.kernels.hashing import ONE
from clipcurate.matching.kernels.splitting import ZERO

_16, _32, _64 = np.uint64(16), np.uint64(32), np.uint64(64)
_LOW = np.uint64(2**32 - 1)
_ALL = np.uint64(2**64 - 1)
_NO_ENTRY = np.uint32(2**32 - 1)


@kernel
def gather(found, raw, hits, size, ends):
    """Append hits text by text, sorted and distinct; fill the texts' ends; return the new size."""
    places = np.zeros(ends.size + 1, np.uint64)
    for hit in range(found):
        places[(raw[hit] >> _32) + ONE] += ONE
    for row in range(np.uint64(ends.size)):
        places[row + ONE] += places[row]
    grouped, ordered = np.empty(found + _64, np.uint32), np.empty(_64, np.uint32)
    for hit in range(found):
        row = raw[hit] >> _32
        grouped[places[row]] = raw[hit] & _LOW
        places[row] += ONE
    start = ZERO
    for row in range(np.uint64(ends.size)):
        count = places[row] - start
        if count <= _64:
            _sort_few(grouped, start, count, ordered)
            size = _append_distinct(ordered[:count], hits, size)
        else:
            size = _append_distinct(np.sort(grouped[start : places[row]]), hits, size)
        ends[row] = size
        start = places[row]
    return size


@inlined
def _sort_few(numbers, start, count, ordered):
    """Sort at most 64 numbers without a branch that depends on them: count who comes before each.

    64 numbers after the last one must be readable.
    """
    here = _below(count)
    for mine in range(count):
        number = numbers[start + mine]
        less, equal = less16(numbers, start, number), equal16(numbers, start, number)
        for base in range(_16, count, _16):
            less |= less16(numbers, start + base, number) << base
            equal |= equal16(numbers, start + base, number) << base
        ordered[count_bits((less & here) | (equal & _below(mine)))] = number


@inlined
def _below(bit):
    """Return a mask of the bits below one."""
    return (ONE << bit) - ONE if bit < _64 else _ALL


@inlined
def _append_distinct(ordered, hits, size):
    last = _NO_ENTRY
    for number in ordered:
        hits[size] = number
        size += np.uint64(number != last)
        last = number
    return size


@kernel
def sort_distinct(hits, start, end):
    """Sort a part in place, drop what repeats, and return its new end."""
    return _append_distinct(np.sort(hits[start:end]), hits, start)
