"""xxh3-128 of many short strings: what the xxhash package computes, without a Python object each.

XXH3_128bits with seed 0 and the default secret, as specified in xxHash's
doc/xxhash_spec.md, "XXH3 algorithm overview". Names follow that text.
"""

import numpy as np

from clipcurate.kernels.compiling import inlined, kernel
from clipcurate.kernels.machine import copy_bytes, load8, multiply_fold, multiply_high

PADDING = 8
"""Bytes that must be readable after a message."""

_SECRET = np.frombuffer(
    bytes.fromhex(
        "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
        "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
        "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
        "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
        "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
        "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
    ),
    np.uint8,
)

_P32_1, _P32_2, _P32_3 = (np.uint64(p) for p in (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D))
_P64_1, _P64_2, _P64_3, _P64_4, _P64_5 = (
    np.uint64(prime)
    for prime in (
        0x9E3779B185EBCA87,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0x85EBCA77C2B2AE63,
        0x27D4EB2F165667C5,
    )
)
_MX1, _MX2 = np.uint64(0x165667919E3779F9), np.uint64(0x9FB21C651E98DF25)
_START = np.array([_P32_3, _P64_1, _P64_2, _P64_3, _P64_4, _P32_2, _P64_5, _P32_1], np.uint64)

_0, _1, _3, _4, _8, _16, _32, _64 = (np.uint64(n) for n in (0, 1, 3, 4, 8, 16, 32, 64))
_LOW = np.uint64(0xFFFFFFFF)
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_STRIPES, _BLOCK, _LAST_SECRET = np.uint64(16), np.uint64(1024), np.uint64(128)


@kernel
def hash_joined(firsts, first_offsets, seconds, second_offsets, out):
    """Fill out[i] with the high and low half of the hash of first i, a NUL, second i."""
    message = np.empty(4096, np.uint8)
    for row in range(out.shape[0]):
        a, b = np.uint64(first_offsets[row]), np.uint64(second_offsets[row])
        m = np.uint64(first_offsets[row + 1]) - a
        n = np.uint64(second_offsets[row + 1]) - b
        size = m + _1 + n
        message = _with_room(message, size)
        copy_bytes(message, _0, firsts, a, m)
        message[m] = 0
        copy_bytes(message, m + _1, seconds, b, n)
        out[row, 0], out[row, 1] = _hash(message, size)


@kernel
def hash_twice(firsts, first_offsets, seconds, second_offsets, known, ids, out):
    """Fill out[i] with the hash of ids[i] as 32 lower-case hex digits, a NUL, second i.

    Unless known[i], ids[i] becomes the hash of first i, a NUL, second i before.
    """
    message = np.empty(4096, np.uint8)
    for row in range(out.shape[0]):
        a, b = np.uint64(first_offsets[row]), np.uint64(second_offsets[row])
        m = np.uint64(first_offsets[row + 1]) - a
        n = np.uint64(second_offsets[row + 1]) - b
        end = max(m, _32)  # of either first part: both messages share the rest
        message = _with_room(message, end + _1 + n)
        message[end] = 0
        copy_bytes(message, end + _1, seconds, b, n)
        if not known[row]:
            copy_bytes(message, end - m, firsts, a, m)
            ids[row, 0], ids[row, 1] = _hash(message[end - m :], m + _1 + n)
        _write_hex(message, end - _32, ids[row, 0])
        _write_hex(message, end - _16, ids[row, 1])
        out[row, 0], out[row, 1] = _hash(message[end - _32 :], _32 + _1 + n)


@kernel
def _with_room(message, size):
    if size + np.uint64(PADDING) <= np.uint64(message.size):
        return message
    return np.empty(np.uint64(2) * size + np.uint64(PADDING), np.uint8)


@inlined
def _write_hex(message, place, number):
    for digit in range(_16):
        shift = np.uint64(60) - np.uint64(4) * digit
        message[place + digit] = _HEX[(number >> shift) & np.uint64(15)]


@kernel
def _hash(data, size):
    """Return the high and the low half of the hash of the first `size` bytes, at least one."""
    if size <= _3:
        return _hash_3(data, size)
    if size <= _8:
        return _hash_8(data, size)
    if size <= _16:
        return _hash_16(data, size)
    if size <= np.uint64(128):
        return _hash_128(data, size)
    if size <= np.uint64(240):
        return _hash_240(data, size)
    return _hash_long(data, size)


@inlined
def _secret(offset):
    return load8(_SECRET, np.uint64(offset))


@inlined
def _load4(data, offset):
    return load8(data, offset) & _LOW


@inlined
def _avalanche(h):
    h = (h ^ (h >> np.uint64(37))) * _MX1
    return h ^ (h >> _32)


@inlined
def _avalanche64(h):
    h = (h ^ (h >> np.uint64(33))) * _P64_2
    h = (h ^ (h >> np.uint64(29))) * _P64_3
    return h ^ (h >> _32)


@inlined
def _swap4(x):
    x = ((x & np.uint64(0x00FF00FF)) << _8) | ((x >> _8) & np.uint64(0x00FF00FF))
    return ((x << _16) | (x >> _16)) & _LOW


@inlined
def _swap8(x):
    return (_swap4(x & _LOW) << _32) | _swap4(x >> _32)


@kernel
def _hash_3(data, size):
    first, middle, last = data[_0], data[size >> _1], data[size - _1]
    low = (np.uint64(first) << _16) | (np.uint64(middle) << np.uint64(24))
    low |= np.uint64(last) | (size << _8)
    high = _swap4(low)
    high = ((high << np.uint64(13)) | (high >> np.uint64(19))) & _LOW
    low ^= _load4(_SECRET, _0) ^ _load4(_SECRET, _4)
    high ^= _load4(_SECRET, _8) ^ _load4(_SECRET, np.uint64(12))
    return _avalanche64(high), _avalanche64(low)


@kernel
def _hash_8(data, size):
    keyed = _load4(data, _0) + (_load4(data, size - _4) << _32)
    keyed ^= _secret(16) ^ _secret(24)
    factor = _P64_1 + (size << np.uint64(2))
    low, high = keyed * factor, multiply_high(keyed, factor)
    high += low << _1
    low ^= high >> _3
    low = (low ^ (low >> np.uint64(35))) * _MX2
    return _avalanche(high), low ^ (low >> np.uint64(28))


@kernel
def _hash_16(data, size):
    first, last = load8(data, _0), load8(data, size - _8)
    mixed = first ^ last ^ _secret(32) ^ _secret(40)
    low, high = mixed * _P64_1, multiply_high(mixed, _P64_1)
    low += (size - _1) << np.uint64(54)
    last ^= _secret(48) ^ _secret(56)
    high += last + (last & _LOW) * (_P32_2 - _1)
    low ^= _swap8(high)
    return _avalanche(multiply_high(low, _P64_2) + high * _P64_2), _avalanche(low * _P64_2)


@inlined
def _mix16(data, place, secret):
    return multiply_fold(
        load8(data, place) ^ load8(_SECRET, secret),
        load8(data, place + _8) ^ load8(_SECRET, secret + _8),
    )


@inlined
def _mix32(low, high, data, one, two, secret):
    low += _mix16(data, one, secret)
    low ^= load8(data, two) + load8(data, two + _8)
    high += _mix16(data, two, secret + _16)
    high ^= load8(data, one) + load8(data, one + _8)
    return low, high


@inlined
def _finish(low, high, size):
    mixed = low * _P64_1 + high * _P64_4 + size * _P64_2
    return _0 - _avalanche(mixed), _avalanche(low + high)


@kernel
def _hash_128(data, size):
    low, high = size * _P64_1, _0
    for back in range((size - _1) // _32 + _1):
        step = (size - _1) // _32 - back
        ends = _16 * step
        low, high = _mix32(low, high, data, ends, size - _16 - ends, _32 * step)
    return _finish(low, high, size)


@kernel
def _hash_240(data, size):
    low, high = size * _P64_1, _0
    for step in range(_4):
        place = _32 * step
        low, high = _mix32(low, high, data, place, place + _16, place)
    low, high = _avalanche(low), _avalanche(high)
    for step in range(_4, size // _32):
        place = _32 * step
        low, high = _mix32(low, high, data, place, place + _16, _3 + place - np.uint64(128))
    low, high = _mix32(low, high, data, size - _16, size - _32, np.uint64(103))
    return _finish(low, high, size)


@kernel
def _hash_long(data, size):
    sums = _START.copy()
    blocks = (size - _1) // _BLOCK
    for block in range(blocks):
        _accumulate(sums, data, block * _BLOCK, _STRIPES)
        for lane in range(_8):
            mixed = sums[lane] ^ (sums[lane] >> np.uint64(47))
            sums[lane] = (mixed ^ load8(_SECRET, _LAST_SECRET + _8 * lane)) * _P32_1
    _accumulate(sums, data, blocks * _BLOCK, ((size - _1) - blocks * _BLOCK) // _64)
    _accumulate_one(sums, data, size - _64, _LAST_SECRET - np.uint64(7))
    low = _merge(sums, np.uint64(11), size * _P64_1)
    high = _merge(sums, _LAST_SECRET - np.uint64(11), ~(size * _P64_2))
    return high, low


@kernel
def _accumulate(sums, data, place, stripes):
    for stripe in range(stripes):
        _accumulate_one(sums, data, place + stripe * _64, stripe * _8)


@kernel
def _accumulate_one(sums, data, place, secret):
    for lane in range(_8):
        value = load8(data, place + _8 * lane)
        key = value ^ load8(_SECRET, secret + _8 * lane)
        sums[lane ^ _1] += value
        sums[lane] += (key & _LOW) * (key >> _32)


@kernel
def _merge(sums, secret, start):
    merged = start
    for pair in range(_4):
        merged += multiply_fold(
            sums[pair * np.uint64(2)] ^ load8(_SECRET, secret + _16 * pair),
            sums[pair * np.uint64(2) + _1] ^ load8(_SECRET, secret + _16 * pair + _8),
        )
    return _avalanche(merged)
