"""The pool's other columns: one type per column for the whole dataset, however its shards differ.

Types are joined pairwise, and the result does not depend on the grouping: tasks, and then the plan,
join what they read, and a dataset must not depend on how its tasks were cut.
"""

import json
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa

types = pa.types


def unify_extras(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """Return all columns in order of appearance.

    Where types differ, the wider number, list or string; where there is none, strings. Encodings
    (dictionaries, views, extensions) are dropped.
    """
    kinds: dict[str, pa.DataType] = {}
    for schema in schemas:
        for field in schema:
            kind = plain(field.type)
            known = kinds.setdefault(field.name, kind)
            kinds[field.name] = _join(known, kind) or pa.large_string()
    return pa.schema(list(kinds.items()))


def convert(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray | pa.Array:
    """Return a column in its unified type; what has no text form of its own becomes JSON."""
    if column.type == kind:
        return column
    if types.is_large_string(kind) and not _has_text_form(column.type):
        return pa.array(map(_to_text, column.to_pylist()), kind)
    return column.cast(kind, safe=not _holds_floats(kind))


def plain(kind: pa.DataType) -> pa.DataType:
    """Return a type without what belongs to its encoding."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain(kind.storage_type)
    if types.is_dictionary(kind):
        return plain(kind.value_type)
    if types.is_struct(kind):
        return pa.struct([(field.name, plain(field.type)) for field in kind])
    if types.is_map(kind):
        return pa.map_(plain(kind.key_type), plain(kind.item_type))
    if _is_list(kind):
        return _list_like(kind, plain(kind.value_type))
    return _VIEWS.get(kind, kind)


def _join(one: pa.DataType, two: pa.DataType) -> pa.DataType | None:
    """Return the narrowest type that holds both, or None."""
    if one == two or types.is_null(two):
        return one
    if types.is_null(one):
        return two
    for is_kind, join in _JOINS.items():
        if is_kind(one) and is_kind(two):
            return join(one, two)
    return None


def _join_numbers(one: pa.DataType, two: pa.DataType) -> pa.DataType | None:
    wider = one if one.bit_width >= two.bit_width else two
    for is_kind in (types.is_floating, types.is_signed_integer, types.is_unsigned_integer):
        if is_kind(one) and is_kind(two):
            return wider
    if pa.uint64() in (one, two):
        return None
    return pa.float64() if types.is_floating(one) or types.is_floating(two) else pa.int64()


def _join_lists(one: pa.DataType, two: pa.DataType) -> pa.DataType | None:
    element = _join(one.value_type, two.value_type)
    if element is None:
        return None
    is_alike = _list_like(one, pa.null()) == _list_like(two, pa.null())
    return _list_like(one, element) if is_alike else pa.large_list(element)


def _join_structs(one: pa.DataType, two: pa.DataType) -> pa.DataType | None:
    if [field.name for field in one] != [field.name for field in two]:
        return None
    joined = [(a.name, _join(a.type, b.type)) for a, b in zip(one, two, strict=True)]
    return None if any(kind is None for _, kind in joined) else pa.struct(joined)


def _list_like(kind: pa.DataType, element: pa.DataType) -> pa.DataType:
    if types.is_fixed_size_list(kind):
        return pa.list_(element, kind.list_size)
    return pa.large_list(element) if types.is_large_list(kind) else pa.list_(element)


def _has_text_form(kind: pa.DataType) -> bool:
    """Say whether every value of a type can be cast to a string."""
    kind = plain(kind)
    return not (types.is_nested(kind) or _is_bytes(kind) or types.is_interval(kind))


def _to_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return _scalar(value) if isinstance(value, bytes) else json.dumps(value, default=_scalar)


def _scalar(value: Any) -> str:
    """Return text for what JSON has no form for."""
    return value.hex() if isinstance(value, bytes) else str(value)


def _holds_floats(kind: pa.DataType) -> bool:
    if types.is_nested(kind):
        return any(_holds_floats(kind.field(i).type) for i in range(kind.num_fields))
    return bool(types.is_floating(kind))


def _is_number(kind: pa.DataType) -> bool:
    return bool(types.is_integer(kind) or types.is_floating(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _is_string(kind: pa.DataType) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    tests = (types.is_binary, types.is_large_binary, types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


_VIEWS = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
_JOINS: dict[Callable[[pa.DataType], bool], Callable[..., pa.DataType | None]] = {
    _is_number: _join_numbers,
    _is_list: _join_lists,
    types.is_struct: _join_structs,
    _is_string: lambda *_: pa.large_string(),
    _is_bytes: lambda *_: pa.large_binary(),
}
