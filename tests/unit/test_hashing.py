from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.hashing import (
    CHUNK,
    canonical_json,
    column_to_halves,
    halves_to_hex,
    hash_bytes,
    hash_file,
    hash_json,
    hash_pairs,
    hash_pairs_twice,
    hash_stream,
    hex_to_halves,
)


def test_canonical_json_sorts_keys_and_keeps_unicode() -> None:
    assert canonical_json({"b": [1, None], "a": "é"}) == '{"a":"é","b":[1,null]}'.encode()


def test_hash_json_is_the_hash_of_the_canonical_form() -> None:
    assert (
        hash_json({"b": 1, "a": 2}) == hash_json({"a": 2, "b": 1}) == hash_bytes(b'{"a":2,"b":1}')
    )
    assert hash_json([1, 2]) != hash_json([2, 1])


def test_the_published_value_of_nothing() -> None:
    assert hash_bytes() == "99aa06d3014798d86001c324468d497f"


def test_hash_bytes_concatenates() -> None:
    assert hash_bytes(b"ab", b"", b"c") == xxhash.xxh3_128_hexdigest(b"abc")


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, 2 * CHUNK + 3])
def test_hash_file_equals_hash_bytes(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    path = tmp_path / "file"
    path.write_bytes(content[:size])
    assert hash_file(path) == hash_bytes(content[:size])


@given(st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=40)), max_size=5))
def test_hash_pairs_by_hand(pairs: list[tuple[bytes, bytes]]) -> None:
    firsts, seconds = ([pair[side] for pair in pairs] for side in (0, 1))
    halves = hash_pairs(pa.array(firsts, pa.binary()), pa.chunked_array([seconds], pa.binary()))
    expected = [xxhash.xxh3_128_hexdigest(first + b"\0" + second) for first, second in pairs]
    assert halves.shape == (len(pairs), 2)
    assert halves.dtype == np.uint64
    assert [f"{int(high):016x}{int(low):016x}" for high, low in halves] == expected


def test_hash_pairs_refuses_unequal_lengths() -> None:
    with pytest.raises(ValueError, match="2 and 1 strings are no pairs"):
        hash_pairs(pa.array(["a", "b"]), pa.array(["c"]))
    with pytest.raises(ValueError, match="1, 1 and 2 strings do not match"):
        hash_pairs_twice(pa.array(["a"]), pa.array(["c"]), pa.nulls(2, pa.string()))


OWN = st.none() | st.integers(0, 2**128 - 1).map(lambda number: f"{number:032x}")


@given(st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=40), OWN), max_size=5))
def test_hashing_twice_by_hand(rows: list[tuple[bytes, bytes, str | None]]) -> None:
    first, second, own = ([row[place] for row in rows] for place in range(3))
    ids, hashes = hash_pairs_twice(
        pa.array(first, pa.binary()), pa.array(second, pa.binary()), pa.array(own, pa.string())
    )
    digits = [o or xxhash.xxh3_128_hexdigest(a + b"\0" + b) for a, b, o in rows]
    assert halves_to_hex(ids).to_pylist() == digits
    assert halves_to_hex(hashes).to_pylist() == [
        xxhash.xxh3_128_hexdigest(uid.encode() + b"\0" + b)
        for uid, (_, b, _) in zip(digits, rows, strict=True)
    ]


@given(st.lists(st.integers(0, 2**128 - 1), max_size=20))
def test_hex_and_halves_are_inverse_and_keep_the_order(values: list[int]) -> None:
    digits = [f"{value:032x}" for value in sorted(values)]
    halves = hex_to_halves(digits)
    assert halves_to_hex(halves).to_pylist() == digits
    assert halves.tolist() == sorted(halves.tolist())
    column = pa.chunked_array([["x", *digits[:1]], digits[1:]], pa.string())[1:]
    assert column_to_halves(column).tolist() == halves.tolist()


def test_a_stream_is_hashed_from_where_it_stands(tmp_path: Path) -> None:
    content = bytes(range(256)) * (CHUNK // 128)
    (tmp_path / "file").write_bytes(b"begun" + content)
    with (tmp_path / "file").open("rb") as file:
        file.read(5)
        assert hash_stream(file) == xxhash.xxh3_128_hexdigest(content)
