import datetime
import decimal
import itertools
import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.datasets.extras import convert, plain, unify_extras

NUMBERS = [pa.int8(), pa.int32(), pa.int64(), pa.uint8(), pa.uint64(), pa.float16(), pa.float64()]
SIMPLE = [
    *NUMBERS,
    pa.null(),
    pa.bool_(),
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.binary(16),
    pa.date32(),
    pa.timestamp("us"),
    pa.timestamp("ns", "UTC"),
    pa.decimal128(9, 2),
    pa.dictionary(pa.int8(), pa.string()),
    pa.uuid(),
]


def nested(kinds: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    return (
        kinds.map(pa.list_)
        | kinds.map(pa.large_list)
        | st.builds(pa.list_, kinds, st.integers(1, 2))
        | st.tuples(kinds, kinds).map(lambda two: pa.struct([("a", two[0]), ("b", two[1])]))
        | kinds.map(lambda kind: pa.struct([("a", kind)]))
        | kinds.map(lambda kind: pa.map_(pa.string(), kind))
    )


KINDS = st.recursive(st.sampled_from(SIMPLE), nested, max_leaves=3)
SCHEMAS = st.lists(
    st.dictionaries(st.sampled_from("xyz"), KINDS, max_size=3).map(
        lambda fields: pa.schema(list(fields.items()))
    ),
    max_size=5,
)


def unified(*kinds: pa.DataType) -> pa.DataType:
    return unify_extras([pa.schema([("x", kind)]) for kind in kinds]).field("x").type


@given(SCHEMAS, st.data())
def test_the_grouping_does_not_matter(schemas: list[pa.Schema], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(schemas)), max_size=3)))
    groups = [schemas[i:j] for i, j in itertools.pairwise([0, *cuts, len(schemas)])]
    assert unify_extras(map(unify_extras, groups)) == unify_extras(schemas)


@given(st.lists(KINDS, min_size=1, max_size=4), st.randoms())
def test_the_order_does_not_matter_to_a_type(kinds: list[pa.DataType], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = random.sample(kinds, len(kinds))
    assert unified(*kinds) == unified(*shuffled)
    assert unified(*kinds, *kinds) == unified(*kinds)


def test_columns_stand_in_order_of_appearance() -> None:
    schemas = [pa.schema([("b", pa.int8())]), pa.schema([("a", pa.int8()), ("b", pa.int8())])]
    assert unify_extras(schemas).names == ["b", "a"]
    assert unify_extras([]) == pa.schema([])


@pytest.mark.parametrize(
    ("one", "two", "both"),
    [
        (pa.int8(), pa.int32(), pa.int32()),
        (pa.uint8(), pa.uint32(), pa.uint32()),
        (pa.uint32(), pa.int8(), pa.int64()),
        (pa.uint64(), pa.int64(), pa.large_string()),
        (pa.int64(), pa.float64(), pa.float64()),
        (pa.uint64(), pa.float64(), pa.large_string()),
        (pa.float32(), pa.float64(), pa.float64()),
        (pa.null(), pa.date32(), pa.date32()),
        (pa.string(), pa.string(), pa.string()),
        (pa.string(), pa.large_string(), pa.large_string()),
        (pa.string(), pa.int8(), pa.large_string()),
        (pa.bool_(), pa.int8(), pa.large_string()),
        (pa.timestamp("s"), pa.timestamp("us"), pa.large_string()),
        (pa.list_(pa.null()), pa.list_(pa.int8()), pa.list_(pa.int8())),
        (pa.list_(pa.int8()), pa.large_list(pa.int16()), pa.large_list(pa.int16())),
        (pa.list_(pa.int8(), 2), pa.list_(pa.int8(), 3), pa.large_list(pa.int8())),
        (pa.list_(pa.int8()), pa.list_(pa.string()), pa.large_string()),
        (pa.struct([("a", pa.int8())]), pa.struct([("b", pa.int8())]), pa.large_string()),
    ],
    ids=str,
)
def test_the_narrowest_type_that_holds_both(
    one: pa.DataType, two: pa.DataType, both: pa.DataType
) -> None:
    assert unified(one, two) == both


def test_encodings_are_dropped_at_any_depth() -> None:
    coded = pa.dictionary(pa.int8(), pa.string())
    kind = pa.struct([("a", pa.list_(coded)), ("b", pa.map_(pa.string(), pa.uuid()))])
    expected = pa.struct([("a", pa.list_(pa.string())), ("b", pa.map_(pa.string(), pa.binary(16)))])
    assert plain(kind) == unified(kind) == expected


@pytest.mark.parametrize(
    ("values", "kind", "text"),
    [
        ([1, None], pa.int8(), ["1", None]),
        ([1.5], pa.float64(), ["1.5"]),
        ([True], pa.bool_(), ["true"]),
        ([b"\xff", None, b""], pa.binary(), ["ff", None, ""]),
        ([[1, None], None], pa.list_(pa.int8()), ["[1, null]", None]),
        ([{"a": "é", "b": b"\x01"}], pa.struct([("a", pa.string()), ("b", pa.binary())]),
         [json.dumps({"a": "é", "b": "01"})]),
        ([[datetime.date(2020, 1, 2)]], pa.list_(pa.date32()), ['["2020-01-02"]']),
        ([decimal.Decimal("1.20")], pa.decimal128(5, 2), ["1.20"]),
        (["x", "x"], pa.dictionary(pa.int8(), pa.string()), ["x", "x"]),
    ],
    ids=str,
)  # fmt: skip
def test_every_type_has_a_text_form(values: list, kind: pa.DataType, text: list) -> None:
    column = pa.chunked_array([pa.array(values, kind)])
    assert convert(column, pa.large_string()).to_pylist() == text


@given(st.lists(KINDS, min_size=1, max_size=3))
def test_whatever_is_unified_can_be_converted(kinds: list[pa.DataType]) -> None:
    target = unified(*kinds)
    for kind in kinds:
        column = pa.chunked_array([pa.nulls(2, kind)])
        assert convert(column, target).type == target


def test_large_integers_meet_floats() -> None:
    column = pa.chunked_array([[2**60 + 1, None]])
    assert convert(column, pa.float64()).to_pylist() == [float(2**60), None]
