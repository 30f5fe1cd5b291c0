"""Cutting texts and entries into tokens.

Rule metaclip1: tokens are what lies between the spaces of the spaced text, empty ones too; a mark
is a token of its own. Rule metaclip2 also makes each *open* character, one that needs no space
beside it, a token of its own; a token with no space before it is *glued* to the one before. So an
entry is a substring of the spaced text iff its tokens are a run of the text's tokens, glued alike
but for the first; where the run's first token is not open, it must not be glued, and where the last
one is not open, the token after it must not be.
"""

from typing import NamedTuple

import numpy as np

from clipcurate.kernels.compiling import inlined, kernel
from clipcurate.kernels.machine import byte_mask, lowest_bit

ZERO, ONE, _64 = np.uint64(0), np.uint64(1), np.uint64(64)
_SPACE = np.uint64(32)
BREAK = np.uint64(1 << 40)
"""Length of the token that ends a text: no word."""

SLACK = np.uint64(136)
"""Tokens that 64 bytes can make, and a text's end: room that there must be to go on."""

_BLANKS = [(9, 10), (13, 13), (32, 32)]
_MARKS = [(ord(mark), ord(mark)) for mark in ",.;:?!`"]
_PUNCTUATION = [(0x21, 0x2F), (0x3A, 0x40), (0x5B, 0x60), (0x7B, 0x7E)]
_LEADS = [(0xC0, 0xFF)]
_blank_bytes, _mark_bytes = byte_mask(_BLANKS), byte_mask(_MARKS)
_cut_bytes = byte_mask(_BLANKS + _MARKS)
_edge_bytes = byte_mask(_BLANKS + _PUNCTUATION + _LEADS)


class Cursor(NamedTuple):
    """Where to go on: a text, and if it was begun already, its rest and whether that is glued."""

    row: np.uint64
    begun: bool
    start: np.uint64
    end: np.uint64
    glued: np.uint64


@kernel
def split_texts(data, offsets, cursor, open_bits, tokens):
    """Fill `tokens` with as many whole texts as fit; returns (tokens, next row, cut, end).

    If not even the first text fits, as much of it as does; then `cut` is True, and `end` is where
    the text ends. The rest of a text that was begun comes alone.
    """
    n, row = ZERO, cursor.row
    last = row if cursor.begun else np.uint64(offsets.size - 2)
    while row <= last and n + SLACK <= np.uint64(tokens.starts.size):
        start, end, glued = np.uint64(offsets[row]), np.uint64(offsets[row + ONE]), ZERO
        if cursor.begun:
            start, end, glued = cursor.start, cursor.end, cursor.glued
        elif open_bits.size:
            start, end = _strip(data, start, end)
        before, number = n, row - cursor.row
        if open_bits.size:
            n, whole = _split_open(data, start, end, glued, open_bits, tokens, n, number)
        else:
            n, whole = _split_spaced(data, start, end, tokens, n, number)
        if not whole:
            return (n, row, True, end) if row == cursor.row else (before, row, False, end)
        n = _add(tokens, n, end, BREAK, number, ZERO)
        row += ONE
    return n, row, False, ZERO


@inlined
def _add(tokens, n, start, length, row, glued):
    tokens.starts[n] = start
    tokens.lengths[n] = length
    tokens.rows[n] = row
    tokens.glued[n] = glued
    return n + ONE


@inlined
def _up_to(mask, size):
    """Return the lowest `size` bits of a mask."""
    return mask & ((ONE << size) - ONE) if size < _64 else mask


@kernel
def _split_spaced(data, start, end, tokens, n, row):
    """Add the tokens of a text by rule metaclip1; returns their new number, and if all fitted."""
    for base in range(start, end, _64):
        if n + SLACK > np.uint64(tokens.starts.size):
            return n, False
        marks = _mark_bytes(data, base)
        cuts = _up_to(_cut_bytes(data, base), end - base)
        while cuts:
            bit = lowest_bit(cuts)
            place = base + bit
            n = _add(tokens, n, start, place - start, row, ZERO)
            _add(tokens, n, place, ONE, row, ZERO)
            n += (marks >> bit) & ONE
            start = place + ONE
            cuts &= cuts - ONE
    return _add(tokens, n, start, end - start, row, ZERO), True


@kernel
def _split_open(data, start, end, glued, open_bits, tokens, n, row):
    """Add the tokens of a text by rule metaclip2; returns their new number, and if all fitted."""
    for base in range(start, end, _64):
        if n + SLACK > np.uint64(tokens.starts.size):
            return n, False
        marks, blanks = _mark_bytes(data, base), _blank_bytes(data, base)
        edges = _up_to(_edge_bytes(data, base), end - base)
        while edges:
            bit = lowest_bit(edges)
            place = base + bit
            edges &= edges - ONE
            width, is_open = _character(data, place, open_bits)
            apart = ((marks | blanks) >> bit) & ONE
            if not (is_open or apart):
                continue
            if place > start or (apart and not glued):
                n = _add(tokens, n, start, place - start, row, glued)
                glued = ONE
            if not (blanks >> bit) & ONE:
                n = _add(tokens, n, place, width, row, ZERO if apart else glued)
            start, glued = place + width, ZERO if apart else ONE
    if end > start or not glued:
        n = _add(tokens, n, start, end - start, row, glued)
    return n, True


@kernel
def split_entries(data, offsets, open_bits, tokens):
    """Add the tokens of all entries, cut at spaces only, and at open characters."""
    n = ZERO
    for row in range(np.uint64(offsets.size - 1)):
        start, end, glued = np.uint64(offsets[row]), np.uint64(offsets[row + ONE]), ZERO
        place = start
        while place < end:
            width, is_open = ONE, False
            if open_bits.size:
                width, is_open = _character(data, place, open_bits)
            if data[place] == _SPACE or is_open:
                if place > start or (not is_open and not glued):
                    n = _add(tokens, n, start, place - start, row, glued)
                    glued = ONE
                if is_open:
                    n = _add(tokens, n, place, width, row, glued)
                start, glued = place + width, ONE if is_open else ZERO
            place += width
        if end > start or not glued:
            n = _add(tokens, n, start, end - start, row, glued)
    return n


@inlined
def is_open_at(data, place, open_bits):
    """Return if the character that begins at a byte is open."""
    return _character(data, place, open_bits)[1]


@kernel
def _character(data, place, open_bits):
    """Return the number of bytes of the character that begins at a byte, and if it is open."""
    width, code = decode(data, place)
    if code >= np.uint64(8 * open_bits.size):
        return width, False
    return width, (open_bits[code >> np.uint64(3)] >> (code & np.uint64(7))) & ONE != ZERO


@kernel
def decode(data, place):
    """Return the number of bytes and the code point of the UTF-8 character that begins here."""
    first = np.uint64(data[place])
    if first < np.uint64(0x80):
        return ONE, first
    width = np.uint64(2) + np.uint64(first >= np.uint64(0xE0)) + np.uint64(first >= np.uint64(0xF0))
    code = first & (np.uint64(0x7F) >> width)
    for more in range(ONE, width):
        code = (code << np.uint64(6)) | (np.uint64(data[place + more]) & np.uint64(0x3F))
    return width, code


@kernel
def _strip(data, start, end):
    """Return the bounds of a text without the white space around it, as str.strip() sees it."""
    while start < end:
        width, code = decode(data, start)
        if not _is_white(code):
            break
        start += width
    while start < end:
        last = end - ONE
        while (data[last] & np.uint64(0xC0)) == np.uint64(0x80):
            last -= ONE
        if not _is_white(decode(data, last)[1]):
            break
        end = last
    return start, end


@kernel
def _is_white(code):
    """Return what str.isspace() says of a character."""
    if code <= np.uint64(0x20):
        return np.uint64(9) <= code <= np.uint64(13) or code >= np.uint64(28)
    if code < np.uint64(0x1680):
        return code == np.uint64(0x85) or code == np.uint64(0xA0)
    if np.uint64(0x2000) <= code <= np.uint64(0x200A):
        return True
    for white in (0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000):
        if code == np.uint64(white):
            return True
    return False
