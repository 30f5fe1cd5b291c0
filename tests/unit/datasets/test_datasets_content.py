import datetime
import decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.datasets.content import content_hash

CODED = pa.dictionary(pa.int8(), pa.string())
DECIMALS = [decimal.Decimal("1.20"), decimal.Decimal("1.21"), None]


def of(values: Any, kind: pa.DataType | None = None) -> str:
    return content_hash(pa.table({"x": pa.array(values, kind)}))


@pytest.mark.parametrize("values", [["a", None, "", "é", "a"], [], [None]], ids=str)
def test_encodings_of_strings_make_no_difference(values: list[str | None]) -> None:
    expected = of(values, pa.string())
    for kind in (pa.large_string(), pa.string_view(), CODED):
        assert of(values, kind) == expected
    padded = pa.array(["z", *values, "z"])[1:-1]
    chunked = pa.chunked_array([values[:1], [], values[1:]], pa.string())
    for column in (padded, chunked, chunked.dictionary_encode()):
        assert content_hash(pa.table({"x": column})) == expected


@pytest.mark.parametrize("values", [[[1, 2], None, [], [None]], [[]], []], ids=str)
def test_encodings_of_lists_make_no_difference(values: list[list[int | None] | None]) -> None:
    expected = of(values, pa.list_(pa.int64()))
    assert of(values, pa.large_list(pa.int64())) == expected
    padded = pa.array([[9], *values, [8]], pa.list_(pa.int64()))[1:-1]
    assert content_hash(pa.table({"x": padded})) == expected


def test_fixed_sizes_and_extensions_are_encodings_too() -> None:
    values = [[1.0, 2.0], None, [3.0, 4.0]]
    assert of(values, pa.list_(pa.float64(), 2)) == of(values, pa.list_(pa.float64()))
    assert of([b"u" * 16], pa.uuid()) == of([b"u" * 16], pa.binary(16))
    assert of([[("k", "v")]], pa.map_(pa.string(), pa.string())) == of(
        [[("k", "v")]], pa.map_(pa.large_string(), CODED)
    )


LONG = [float(i) for i in range(2000)]
DIFFERENT = [
    (None, "", pa.string()),
    ("a", "b", pa.string()),
    ("", "\0", pa.string()),
    (None, b"", pa.binary()),
    (None, [], pa.list_(pa.int8())),
    ([], [None], pa.list_(pa.int8())),
    ([[1], [2]], [[1, 2], []], pa.list_(pa.list_(pa.int8()))),
    (["a", "b"], ["ab", ""], pa.list_(pa.string())),
    (None, 0, pa.int64()),
    (0.0, -0.0, pa.float64()),
    (1.0, 1.0 + 1e-15, pa.float64()),
    (None, False, pa.bool_()),
    (None, {"a": None}, pa.struct([("a", pa.int8())])),
    ({"a": 1, "b": 2}, {"a": 2, "b": 1}, pa.struct([("a", pa.int8()), ("b", pa.int8())])),
    (LONG, [*LONG[:1000], 0.5, *LONG[1001:]], pa.list_(pa.float64(), 2000)),
    ([1.0], [1.0 + 1e-12], pa.list_(pa.float64(), 1)),
    ([("k", 1.0)], [("k", 1.0 + 1e-12)], pa.map_(pa.string(), pa.float64())),
    ([("k", 1.0)], None, pa.map_(pa.string(), pa.float64())),
    (1, 2, pa.time64("ns")),
    (1, 2, pa.time32("ms")),
    (1, 2, pa.timestamp("ns", "UTC")),
    (datetime.date(2020, 1, 1), datetime.date(2020, 1, 2), pa.date32()),
    (decimal.Decimal("1.20"), decimal.Decimal("1.21"), pa.decimal128(5, 2)),
    ((1, 2, 3), (1, 3, 3), pa.month_day_nano_interval()),
    ("a", "b", CODED),
]


@pytest.mark.parametrize(("one", "two", "kind"), DIFFERENT, ids=[str(d[2]) for d in DIFFERENT])
def test_any_changed_value_changes_the_hash(one: Any, two: Any, kind: pa.DataType) -> None:
    assert of([one], kind) != of([two], kind)
    assert of([one, two], kind) != of([two, one], kind)
    assert of([one], kind) != of([one, one], kind)


def test_names_types_and_columns_count() -> None:
    hashes = [
        content_hash(table)
        for table in (
            pa.table({"x": [1]}),
            pa.table({"y": [1]}),
            pa.table({"x": pa.array([1], pa.int32())}),
            pa.table({"x": pa.array([1], pa.timestamp("s"))}),
            pa.table({"x": ["1"]}),
            pa.table({"x": [b"1"]}),
            pa.table({"x": [1], "y": [1]}),
            pa.table({"y": [1], "x": [1]}),
            pa.table({"x": pa.nulls(1)}),
            pa.table({"x": pa.nulls(2)}),
            pa.table({}),
        )
    ]
    assert len(set(hashes)) == len(hashes)


def test_metadata_of_the_schema_does_not_count() -> None:
    table = pa.table({"x": [1]})
    assert content_hash(table.replace_schema_metadata({"a": "b"})) == content_hash(table)


ROW = st.fixed_dictionaries(
    {
        "s": st.none() | st.text("ab\0", max_size=2),
        "l": st.none() | st.lists(st.none() | st.text("ab", max_size=1), max_size=2),
        "f": st.none() | st.sampled_from([0.0, 1.0]),
    }
)
SCHEMA = pa.schema([("s", pa.string()), ("l", pa.list_(pa.string())), ("f", pa.float64())])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (DECIMALS, pa.decimal128(9, 2)),
        ([1, None, 3], pa.uint16()),
        ([True, None, False], pa.bool_()),
        ([{"a": "x", "b": [1]}, None, {"a": None, "b": []}], None),
        ([[("k", 1)], None, []], pa.map_(pa.string(), pa.int8())),
        (["u", None, "u"], CODED),
    ],
    ids=str,
)
def test_chunks_make_no_difference(values: list[Any], kind: pa.DataType | None) -> None:
    whole = pa.array(values, kind)
    chunks = pa.chunked_array([whole[:1], whole[:0], whole[1:]])
    assert content_hash(pa.table({"x": chunks})) == of(values, kind)


@given(st.lists(ROW, max_size=4), st.lists(ROW, max_size=4), st.integers(0, 4))
def test_equal_tables_and_only_they_have_equal_hashes(
    one: list[dict[str, Any]], two: list[dict[str, Any]], split: int
) -> None:
    table = pa.Table.from_pylist(one, SCHEMA)
    halves = pa.concat_tables([table.slice(0, split), table.slice(split)])
    assert content_hash(halves) == content_hash(table)
    assert (content_hash(pa.Table.from_pylist(two, SCHEMA)) == content_hash(table)) == (one == two)
