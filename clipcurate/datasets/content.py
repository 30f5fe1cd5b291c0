"""A hash of a table's values that does not depend on who wrote or read it."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from clipcurate.datasets.extras import plain
from clipcurate.kernels.buffers import string_buffers

_INTEGERS = {
    pa.bool_(): pa.int8(),
    pa.time32("s"): pa.int32(),
    pa.time32("ms"): pa.int32(),
    pa.time64("us"): pa.int64(),
    pa.time64("ns"): pa.int64(),
}
"""What stands for types whose NumPy form is a Python object, or loses digits."""


def content_hash(table: pa.Table) -> str:
    """Return the hash of a table's columns, in order, and of all their values.

    Per column: NUL, its name, NUL, its kind, NUL; then level by level validity as bytes, lengths of
    lists and strings as little-endian int64, and values as little-endian bytes. Large and small
    offsets, dictionaries, views, extensions and chunks make no difference; nor do fixed sizes of
    lists.
    """
    state = xxhash.xxh3_128()
    state.update(str(table.num_rows).encode())
    for field in table.schema:
        state.update(f"\0{field.name}\0{_kind(field.type)}\0".encode())
        _update(state, table[field.name].chunks or [pa.array([], field.type)])
    return state.hexdigest()


def _kind(kind: pa.DataType) -> str:
    """Name a type without what belongs to its encoding."""
    kind = plain(kind)
    if pa.types.is_struct(kind):
        return "struct<" + ",".join(f"{field.name}:{_kind(field.type)}" for field in kind) + ">"
    if pa.types.is_map(kind):
        return f"map<{_kind(kind.key_type)},{_kind(kind.item_type)}>"
    if _is_list(kind):
        return f"list<{_kind(kind.value_type)}>"
    if _is_text(kind):
        return "string"
    return "binary" if _is_binary(kind) else str(kind)


def _update(state: Any, chunks: list[Any]) -> None:
    """Feed one column's values, level by level; it has at least one chunk."""
    kind = chunks[0].type
    if isinstance(kind, pa.BaseExtensionType):
        _update(state, [chunk.storage for chunk in chunks])
        return
    if pa.types.is_dictionary(kind):
        _update(state, [chunk.dictionary_decode() for chunk in chunks])
        return
    if pa.types.is_map(kind):
        items = pa.list_(pa.struct([kind.key_field, kind.item_field]))
        chunks, kind = [chunk.cast(items) for chunk in chunks], items
    for chunk in chunks:
        state.update(chunk.is_valid().to_numpy(zero_copy_only=False))
    if pa.types.is_struct(kind):
        for children in zip(*(chunk.flatten() for chunk in chunks), strict=True):
            _update(state, list(children))
    elif _is_list(kind):
        for chunk in chunks:
            state.update(_lengths(pc.list_value_length(chunk)))
        _update(state, [chunk.flatten() for chunk in chunks])
    elif _is_text(kind) or _is_binary(kind):
        _update_strings(state, chunks)
    elif not pa.types.is_null(kind):
        _update_numbers(state, [chunk.drop_null() for chunk in chunks])


def _update_strings(state: Any, chunks: list[Any]) -> None:
    """Feed the lengths, then the bytes of strings."""
    pieces = [string_buffers(chunk) for chunk in chunks]
    for _, bounds in pieces:
        state.update(np.diff(bounds).astype("<i8", copy=False))
    for data, bounds in pieces:
        state.update(data[bounds[0] : bounds[-1]])


def _update_numbers(state: Any, chunks: list[Any]) -> None:
    """Feed values of fixed width."""
    kind = chunks[0].type
    plain = [chunk.cast(_INTEGERS[kind]) if kind in _INTEGERS else chunk for chunk in chunks]
    values = [chunk.to_numpy(zero_copy_only=False) for chunk in plain]
    if values[0].dtype == object:  # decimals and intervals
        state.update("\0".join(repr(value) for piece in values for value in piece).encode())
        return
    for piece in values:
        state.update(np.ascontiguousarray(piece))


def _lengths(lengths: Any) -> npt.NDArray[np.int64]:
    packed: npt.NDArray[np.int64] = pc.fill_null(lengths, 0).cast(pa.int64()).to_numpy()
    return packed


def _is_list(kind: pa.DataType) -> bool:
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in tests)


def _is_text(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(test(kind) for test in tests)


def _is_binary(kind: pa.DataType) -> bool:
    tests = (
        pa.types.is_binary,
        pa.types.is_large_binary,
        pa.types.is_fixed_size_binary,
        pa.types.is_binary_view,
    )
    return any(test(kind) for test in tests)
