import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.pools.arrays import bad_rows, byte_sizes, to_text, without


def unchecked(values: list[bytes | None]) -> pa.Array:
    return pa.array(values, pa.large_binary()).view(pa.large_string())


def is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


BAD = unchecked([b"ok", b"\xff", None, b"\xed\xa0\x80"])


@given(st.lists(st.none() | st.binary(max_size=4)))
def test_bad_rows_are_those_that_python_cannot_decode(values: list[bytes | None]) -> None:
    expected = [i for i, value in enumerate(values) if not is_utf8(value)]
    assert bad_rows(unchecked(values)).tolist() == expected


@pytest.mark.parametrize(
    "array",
    [
        BAD,
        BAD.slice(0),
        pa.StructArray.from_arrays([BAD], ["a"]),
        pa.ListArray.from_arrays([0, 1, 2, 3, 4], BAD),
        pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 3]), BAD),
    ],
)
def test_bad_strings_are_found_at_any_depth(array: pa.Array) -> None:
    assert bad_rows(array).tolist() == [1, 3]
    clean = without(array, bad_rows(array))
    assert clean.type == array.type
    assert [clean[i].is_valid for i in (1, 3)] == [False, False]
    assert "ok" in str(clean[0].as_py())


def test_bytes_of_any_type_that_is_not_string_are_fine() -> None:
    assert not len(bad_rows(pa.array([b"\xff"])))
    assert not len(bad_rows(pa.array([[b"\xff"]])))


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (pa.array(["ab", None, ""]), ["ab", None, ""]),
        (pa.array(["ab"], pa.string_view()), ["ab"]),
        (pa.array([b"ab"]), ["ab"]),
        (pa.array(["ab", "ab"]).dictionary_encode(), ["ab", "ab"]),
        (pa.array([12, None]), ["12", None]),
        (pa.nulls(2), [None, None]),
    ],
)
def test_to_text(array: pa.Array, expected: list[str | None]) -> None:
    text = to_text(array)
    assert text.type == pa.large_string()
    assert text.to_pylist() == expected


@pytest.mark.parametrize(
    ("array", "sizes"),
    [
        (pa.array(["é", None, ""]), [2, 0, 0]),
        (pa.array([b"abc", b""], pa.large_binary()), [3, 0]),
        (pa.array([b"abcd"], pa.binary(4)), [4]),
        (pa.array([1, None], pa.int32()), [4, 4]),
        (pa.array([True]), [1]),
        (pa.array([datetime.date(2020, 1, 1)]), [4]),
        (pa.nulls(1), [0]),
        (pa.array([["a", "bc"], None, []]), [3, 0, 0]),
        (pa.array([[1, 2]], pa.list_(pa.int16(), 2)), [4]),
        (pa.array([{"a": 1, "b": "xyz"}, None]), [11, 8]),
        (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int32())), [5, 0]),
        (pa.array(["abc", "d", "abc"]).dictionary_encode(), [3, 1, 3]),
        (pa.array([b"0" * 16], pa.uuid()), [16]),
        (pa.array([[["a"], ["bc", "d"]], [[]]]), [4, 0]),
    ],
)
def test_byte_sizes(array: pa.Array, sizes: list[int]) -> None:
    assert byte_sizes(array).tolist() == sizes


@given(
    st.lists(st.none() | st.lists(st.none() | st.text(max_size=3), max_size=3), min_size=1),
    st.data(),
)
def test_byte_sizes_do_not_depend_on_where_an_array_is_cut(values: Any, data: Any) -> None:
    array = pa.array(values, pa.list_(pa.string()))
    cut = data.draw(st.integers(0, len(values)))
    parts = [byte_sizes(array.slice(0, cut)), byte_sizes(array.slice(cut))]
    assert np.concatenate(parts).tolist() == byte_sizes(array).tolist()
