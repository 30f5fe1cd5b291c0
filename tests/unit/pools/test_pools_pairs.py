from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.pools import PAIR_FIELDS, PAIR_SCHEMA, extra_columns, pairs
from clipcurate.pools.pairs import Records, extra_names, pair_tables

UID = "0123456789ABCDEF" * 2


def records(*texts: pa.Array, first_row: int = 0, **columns: Any) -> Records:
    count = len(texts[0])
    arrays = {
        name: pa.array(columns.get(name, [None] * count), kind)
        for name, kind in [
            *((name, pa.large_string()) for name in ("url", "key", "uid", "lang")),
            ("reject", pa.string()),
        ]
    }
    extras = columns.get("extras", {})
    return Records(first_row, texts, extras=extras, other_bytes=np.full(count, 10), **arrays)


def table(*args: Any, batch_rows: int = 100, **columns: Any) -> pa.Table:
    return pa.concat_tables(pair_tables(records(*args, **columns), batch_rows))


def test_the_columns_are_the_canonical_ones_then_the_extras() -> None:
    made = table(pa.array(["a"]), extras={"size": pa.array([3])})
    assert made.schema == pa.schema([*PAIR_SCHEMA, pa.field("size", pa.int64())])
    assert tuple(made.schema.names[:9]) == PAIR_FIELDS
    assert extra_columns(made) == extra_columns(made.schema) == ["size"]


def test_one_text_per_record() -> None:
    made = table(
        pa.array(["a", None, ""]), first_row=7, url=["u", None, "v"], lang=["en", "", None]
    )
    assert made.to_pydict() == {
        "row": [7, 8, 9],
        "text_index": [0, 0, 0],
        "uid": [None] * 3,
        "key": ["", "", ""],
        "url": ["u", "", "v"],
        "text": ["a", None, ""],
        "lang": ["en", "", ""],
        "reject": [None, "no_text", None],
        "row_bytes": [11, 10, 10],
    }


STRUCTS = [
    [{"caption": "a", "lang": "en"}, {"caption": "bc", "lang": None}],
    [],
    None,
    [None, {"caption": None, "lang": "de"}, {"caption": "d", "lang": "fr"}],
]


@pytest.mark.parametrize("make", [pa.list_, pa.large_list])
def test_texts_of_lists_of_structs_bring_their_languages(make: Any) -> None:
    kind = make(pa.struct({"n": pa.int8(), "caption": pa.string(), "lang": pa.string()}))
    made = table(pa.array(STRUCTS, kind), lang=["xx", "yy", None, None])
    assert made["row"].to_pylist() == [0, 0, 1, 2, 3, 3, 3]
    assert made["text_index"].to_pylist() == [0, 1, 0, 0, 0, 1, 2]
    assert made["text"].to_pylist() == ["a", "bc", None, None, None, None, "d"]
    assert made["lang"].to_pylist() == ["en", "xx", "yy", "", "", "de", "fr"]
    no = "no_text"
    assert made["reject"].to_pylist() == [None, None, no, no, no, no, None]
    assert made["row_bytes"].to_pylist() == [13, 13, 10, 10, 11, 11, 11]


def test_a_language_that_is_no_utf8_rejects_its_text() -> None:
    langs = pa.array([b"en", b"\xff"], pa.binary()).view(pa.string())
    structs = pa.StructArray.from_arrays([pa.array(["a", "b"]), langs], ["text", "lang"])
    made = table(pa.ListArray.from_arrays([0, 2], structs))
    assert made["reject"].to_pylist() == [None, "invalid_utf8"]
    assert made["lang"].to_pylist() == ["en", ""]
    made.validate(full=True)


def test_texts_of_several_columns_stand_side_by_side_in_order() -> None:
    alt = pa.array(["a", None, "c", None, ""])
    titles = pa.array([["t", None], ["u"], [], None, ["v", "w"]])
    described = pa.array([[{"text": "s", "lang": "en"}], None, None, None, []])
    made = table(alt, titles, described, lang=["de"] * 5, uid=[UID] * 5)
    assert made["row"].to_pylist() == [0, 0, 0, 0, 1, 2, 3, 4, 4, 4]
    assert made["text_index"].to_pylist() == [0, 1, 2, 3, 0, 0, 0, 0, 1, 2]
    assert made["text"].to_pylist() == ["a", "t", None, "s", "u", "c", None, "", "v", "w"]
    assert made["lang"].to_pylist() == ["de"] * 3 + ["en"] + ["de"] * 6
    reasons = made["reject"].to_pylist()
    assert [i for i, reason in enumerate(reasons) if reason] == [2, 6]
    assert [i for i, uid in enumerate(made["uid"].to_pylist()) if uid] == [4, 5]
    assert made["row_bytes"].to_pylist() == [13] * 4 + [11, 11, 10] + [12] * 3


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.large_string())])
def test_lists_of_texts_become_pairs(kind: pa.DataType) -> None:
    texts = pa.array([["a", "bc"], [], None, [None, "d"], ["e"]], kind)
    made = table(texts, extras={"x": pa.array([1, 2, 3, 4, None])})
    assert made["row"].to_pylist() == [0, 0, 1, 2, 3, 3, 4]
    assert made["text_index"].to_pylist() == [0, 1, 0, 0, 0, 1, 0]
    assert made["text"].to_pylist() == ["a", "bc", None, None, None, "d", "e"]
    no = "no_text"
    assert made["reject"].to_pylist() == [None, None, no, no, no, None, None]
    assert made["row_bytes"].to_pylist() == [13, 13, 10, 10, 11, 11, 11]
    assert made["x"].to_pylist() == [1, 1, 2, 3, 4, 4, None]


STRING = st.sampled_from([None, "", "u", "é"])


def described(fewest: int, most: int) -> st.SearchStrategy[dict[str, Any]]:
    """Return a record with so many texts, which may be missing or no UTF-8."""
    text = st.sampled_from([None, b"", b"a", "éb".encode(), b"\xff"])
    columns = dict.fromkeys(["url", "key", "lang"], STRING)
    uid, reject = st.sampled_from([None, UID, "u"]), st.sampled_from([None, None, "no_image"])
    texts = st.lists(text, min_size=fewest, max_size=most)
    return st.fixed_dictionaries({"texts": texts, "uid": uid, "reject": reject, **columns})


def by_hand(row: int, record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    texts = record["texts"] or [None]
    for place, text in enumerate(texts):
        why = "no_text" if text is None else "invalid_utf8" if text == b"\xff" else None
        reject = record["reject"] or why
        has_uid = record["uid"] == UID and len(record["texts"]) == 1 and not reject
        yield {
            "row": row,
            "text_index": place,
            "uid": UID.lower() if has_uid else None,
            **{name: record[name] or "" for name in ("key", "url")},
            "text": None if reject else text.decode(),
            "lang": record["lang"] or "",
            "reject": reject,
            "row_bytes": 10 + sum(len(text or b"") for text in texts),
        }


@pytest.mark.parametrize(("fewest", "most"), [(1, 1), (0, 1), (0, 3)])
@given(st.data(), st.integers(1, 4))
def test_the_fields_of_every_pair_by_hand(
    fewest: int, most: int, data: st.DataObject, batch_rows: int
) -> None:
    """Where no record has two texts, a shorter way leads to the same table."""
    rows = data.draw(st.lists(described(fewest, most), min_size=1, max_size=6))
    columns = {
        name: [row[name] for row in rows] for name in ("url", "key", "uid", "lang", "reject")
    }
    lists = pa.array([row["texts"] for row in rows], pa.list_(pa.large_binary()))
    texts = lists.flatten() if fewest else lists
    made = table(texts, first_row=5, batch_rows=batch_rows, **columns)
    made.validate(full=True)
    assert made.to_pylist() == [p for i, row in enumerate(rows) for p in by_hand(i + 5, row)]


def test_a_uid_counts_only_with_32_hex_digits_and_one_accepted_text() -> None:
    texts = pa.array([["a"], ["a", "b"], ["a"], [None], ["a"]])
    made = table(texts, uid=[UID, UID, UID[1:], UID, None])
    assert made["uid"].to_pylist() == [UID.lower(), None, None, None, None, None]


def test_invalid_utf8_rejects_that_text_alone() -> None:
    values = pa.array([b"a", b"\xff", b"c"], pa.large_binary()).view(pa.large_string())
    made = table(pa.LargeListArray.from_arrays([0, 2, 3], values))
    assert made["reject"].to_pylist() == [None, "invalid_utf8", None]
    assert made["text"].to_pylist() == ["a", None, "c"]
    made.validate(full=True)


def test_a_rejected_record_rejects_all_its_pairs() -> None:
    made = table(pa.array([["a", "b"], ["c"]]), reject=["no_image", None])
    assert made["reject"].to_pylist() == ["no_image", "no_image", None]
    assert made["text"].to_pylist() == [None, None, "c"]


def test_tables_are_bounded_in_rows_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pa.array([["a" * 10] * 3] * 4)
    by_rows = list(pair_tables(records(texts), 5))
    assert [len(part) for part in by_rows] == [5, 5, 2]
    monkeypatch.setattr(pairs, "TABLE_BYTES", 40)
    by_bytes = list(pair_tables(records(texts), 5))
    assert [len(part) for part in by_bytes] == [2] * 6
    monkeypatch.setattr(pairs, "TABLE_BYTES", 1)
    one_by_one = list(pair_tables(records(texts), 5))
    assert [len(part) for part in one_by_one] == [1] * 12
    assert pa.concat_tables(by_rows).equals(pa.concat_tables(by_bytes))
    assert pa.concat_tables(by_rows).equals(pa.concat_tables(one_by_one))


def test_extras_never_hide_a_canonical_column() -> None:
    assert extra_names(["size", "row", "pool_row", "key"]) == {
        "size": "size",
        "row": "pool_pool_row",
        "pool_row": "pool_row",
        "key": "pool_key",
    }
