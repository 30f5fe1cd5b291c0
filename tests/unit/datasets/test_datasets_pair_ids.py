from typing import Any

import pyarrow as pa
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.datasets.pair_ids import image_ids, pair_keys, pair_uids
from clipcurate.pools import PAIR_SCHEMA

UID = st.none() | st.integers(0, 2**128 - 1).map(lambda n: f"{n:032x}")
PAIR = st.fixed_dictionaries(
    {
        "uid": UID,
        "key": st.text("ab\0é", max_size=3),
        "url": st.text("ab\0é", max_size=3),
        "text": st.none() | st.sampled_from(["dog", "a cat and a dog", "", "x", "猫", "\0dog"]),
    }
)
PAIRS = st.lists(PAIR, max_size=6)


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows, PAIR_SCHEMA)


def halves(digits: str) -> list[int]:
    return [int(digits[:16], 16), int(digits[16:], 16)]


@given(PAIRS)
def test_ids_by_hand(rows: list[dict[str, Any]]) -> None:
    uids, coin_keys = pair_keys(table(rows))
    for i, row in enumerate(rows):
        if row["text"] is None:
            assert uids[i].tolist() == coin_keys[i].tolist() == [0, 0]
            continue
        text = row["text"].encode()
        uid = row["uid"] or xxhash.xxh3_128_hexdigest(row["key"].encode() + b"\0" + text)
        assert uids[i].tolist() == halves(uid)
        key = xxhash.xxh3_128_hexdigest(uid.encode() + b"\0" + text)
        assert coin_keys[i].tolist() == halves(key)
    usable = [row for row in rows if row["text"] is not None]
    assert pair_uids(table(usable)).tolist() == uids[[r["text"] is not None for r in rows]].tolist()


@given(PAIRS)
def test_an_image_is_named_by_its_url_or_else_by_its_key(rows: list[dict[str, Any]]) -> None:
    ids, named = image_ids(table(rows))
    names = [row["url"] or row["key"] for row in rows]
    assert named.tolist() == [name != "" for name in names]
    digests = [xxhash.xxh3_128_hexdigest(name.encode() + b"\0") for name in names]
    assert ids.tolist() == [halves(digest) for digest in digests]
