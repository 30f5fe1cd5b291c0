"""A hash of a table's values that does not depend on who wrote or read it."""

from typing import Any

import numpy as np
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
        array = table[field.name].combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
        _update(state, array)
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


def _update(state: Any, array: Any) -> None:
    """Feed one array's values, level by level."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        _update(state, array.storage)
        return
    if pa.types.is_dictionary(kind):
        _update(state, array.dictionary_decode())
        return
    if pa.types.is_map(kind):
        array = array.cast(pa.list_(pa.struct([kind.key_field, kind.item_field])))
        kind = array.type
    state.update(array.is_valid().to_numpy(zero_copy_only=False).tobytes())
    if pa.types.is_struct(kind):
        for child in array.flatten():
            _update(state, child)
    elif _is_list(kind):
        state.update(_lengths(pc.list_value_length(array)))
        _update(state, array.flatten())
    elif _is_text(kind) or _is_binary(kind):
        _update_strings(state, array)
    elif not pa.types.is_null(kind):
        plain = array.cast(_INTEGERS[kind]) if kind in _INTEGERS else array
        values = plain.drop_null().to_numpy(zero_copy_only=False)
        if values.dtype == object:  # decimals and intervals
            values = np.frombuffer("\0".join(map(repr, values)).encode(), np.uint8)
        state.update(values.tobytes())


def _update_strings(state: Any, values: Any) -> None:
    """Feed lengths and bytes of strings."""
    data, bounds = string_buffers(values)
    state.update(np.diff(bounds).astype("<i8").tobytes())
    state.update(data[bounds[0] : bounds[-1]].data)


def _lengths(lengths: Any) -> bytes:
    packed: bytes = lengths.fill_null(0).cast(pa.int64()).to_numpy(zero_copy_only=False).tobytes()
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
