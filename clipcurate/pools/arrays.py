"""Arrow arrays of any type: bytes per row, and strings that may not be UTF-8."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Int64s = npt.NDArray[np.int64]
types = pa.types


def is_text(kind: pa.DataType) -> bool:
    """Say whether values of this type are strings, or bytes that are meant as strings."""
    if types.is_dictionary(kind):
        return is_text(kind.value_type)
    return bool(
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_binary(kind)
        or types.is_large_binary(kind)
        or types.is_binary_view(kind)
    )


def is_list(kind: pa.DataType) -> bool:
    """Say whether values of this type are lists."""
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def to_text(array: pa.Array) -> pa.Array:
    """Return strings, bytes or scalars as large_string.

    Strings are not checked: see `bad_rows`.
    """
    if types.is_null(array.type):
        return pa.nulls(len(array), pa.large_string())
    if not is_text(array.type):
        return array.cast(pa.large_string())
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return array.cast(pa.large_binary()).view(pa.large_string())


def bad_rows(array: pa.Array) -> Int64s:
    """Return the rows that hold a string, at any depth, that is not UTF-8.

    Costs one vectorised pass; only an array that fails it is searched, by halves.
    """
    if not _holds_strings(array.type) or _is_valid(array):
        return np.empty(0, np.int64)
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    return np.array(_search(array, np.arange(len(array))), np.int64)


def without(array: pa.Array, rows: Int64s) -> pa.Array:
    """Return the array with nulls at `rows`."""
    if not len(rows):
        return array
    mask = np.zeros(len(array), bool)
    mask[rows] = True
    return array.take(pa.array(np.arange(len(array)), mask=mask))


def byte_sizes(array: pa.Array) -> Int64s:
    """Return the bytes of each row's value in memory; they depend on the value alone.

    Fixed-width values count their width, null or not; strings and lists their content.
    """
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        return byte_sizes(array.storage)
    if types.is_dictionary(kind):
        return byte_sizes(array.dictionary_decode())
    if is_text(kind):
        lengths = pc.binary_length(array.cast(pa.large_binary()))
        return _integers(lengths)
    if types.is_struct(kind):
        fields = [byte_sizes(field) for field in array.flatten()]
        return sum(fields, np.zeros(len(array), np.int64))
    if types.is_map(kind) or is_list(kind):
        return _list_sizes(array)
    return np.full(len(array), _width(kind), np.int64)


def _width(kind: pa.DataType) -> int:
    if types.is_null(kind):
        return 0
    return max(1, int(kind.bit_width) // 8)


def _list_sizes(array: pa.Array) -> Int64s:
    if types.is_map(array.type):
        entries = pa.list_(pa.struct([array.type.key_field, array.type.item_field]))
        array = array.cast(entries)
    parents = _integers(pc.list_parent_indices(array))
    sizes = byte_sizes(pc.list_flatten(array))
    # Sums stay exact in float64: no batch holds 2**53 bytes.
    return np.bincount(parents, sizes, minlength=len(array)).astype(np.int64)


def _integers(array: pa.Array) -> Int64s:
    filled: Any = pc.fill_null(array, 0).to_numpy(zero_copy_only=False)
    return np.asarray(filled, np.int64)


def _holds_strings(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _holds_strings(kind.storage_type)
    if types.is_dictionary(kind):
        return _holds_strings(kind.value_type)
    if types.is_nested(kind):
        return any(_holds_strings(kind.field(i).type) for i in range(kind.num_fields))
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _is_valid(array: pa.Array) -> bool:
    try:
        array.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _search(array: pa.Array, rows: Int64s) -> list[int]:
    # Taken, not sliced: a slice of a nested array is validated with all of its parent's children.
    if _is_valid(array.take(pa.array(rows))):
        return []
    if len(rows) == 1:
        return [int(rows[0])]
    middle = len(rows) // 2
    return _search(array, rows[:middle]) + _search(array, rows[middle:])
