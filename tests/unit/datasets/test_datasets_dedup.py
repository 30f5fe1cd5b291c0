"""Duplicates against a dictionary that has seen everything."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from clipcurate.datasets.dedup import (
    KINDS,
    By,
    Dedup,
    Duplicates,
    Keys,
    UnitNumbers,
    decide,
    find_repeats,
    parse_kind,
    part,
)
from clipcurate.errors import InvalidInputError
from clipcurate.pools import PAIR_SCHEMA

Row = dict[str, Any]
Pool = list[list[list[Row]]]
"""Tasks of shards of rows."""

ROW = st.fixed_dictionaries(
    {
        "url": st.sampled_from(["", "u1", "u2", "u3"]),
        "key": st.sampled_from(["", "k1", "u1"]),
        "texts": st.lists(st.sampled_from([None, "a", "b", ""]), min_size=1, max_size=3),
        "uid": st.sampled_from([None, None, f"{1:032x}", f"{1 << 64:032x}"]),
    }
)
POOL = st.lists(st.lists(st.lists(ROW, max_size=5), min_size=1, max_size=2), max_size=5)


def pairs_of(row: Row, number: int) -> list[Row]:
    uid = row["uid"] if len(row["texts"]) == 1 and row["texts"][0] is not None else None
    shared = {"row": number, "url": row["url"], "key": row["key"], "uid": uid, "lang": ""}
    return [
        shared
        | {"text": text, "text_index": i, "row_bytes": 1, "reject": "x" if text is None else None}
        for i, text in enumerate(row["texts"])
    ]


def literal(pool: Pool, by: By) -> list[list[bool]]:
    """Return which pairs are duplicates, per task in reading order."""
    seen: dict[str, tuple[int, ...]] = {}
    dropped: list[list[bool]] = []
    for t, task in enumerate(pool):
        dropped.append([])
        for s, shard in enumerate(task):
            for r, row in enumerate(shard):
                for pair in pairs_of(row, r):
                    text, unit = pair["text"], (t, s, r, pair["text_index"])
                    own = f"{pair['key']}\0{text}".encode()
                    name = pair["uid"] or xxhash.xxh3_128_hexdigest(own)
                    if by == "url":
                        name, unit = pair["url"] or pair["key"], (t, s, r)
                    usable = text is not None and name != ""
                    dropped[-1].append(usable and seen.setdefault(name, unit) != unit)
    return dropped


def batches(task: list[list[Row]], rows: int) -> list[tuple[int, pa.Table]]:
    found = []
    for shard, records in enumerate(task):
        pairs = [pair for number, row in enumerate(records) for pair in pairs_of(row, number)]
        table = pa.Table.from_pylist(pairs, PAIR_SCHEMA)
        found += [(shard, table.slice(first, rows)) for first in range(0, len(pairs) or 1, rows)]
    return found


def in_steps(pool: Pool, by: By, partitions: int, rows: int) -> list[list[bool]]:
    parts = []
    for task in pool:
        numbers = UnitNumbers(by)
        keys = [
            Keys.of(by, pairs, numbers.of(shard, pairs)) for shard, pairs in batches(task, rows)
        ]
        parts.append(part(Keys.concatenate(keys), partitions))
    drops = [find_repeats([sections[number] for sections in parts]) for number in range(partitions)]
    found = []
    for number, task in enumerate(pool):
        sections = [parts[number][partitions], *(one[number] for one in drops)]
        duplicates = Duplicates.from_bytes(by, sections)
        masks = [duplicates.among(shard, pairs) for shard, pairs in batches(task, rows)]
        found.append(np.concatenate(masks).tolist())
    return found


@settings(max_examples=300)
@given(POOL, st.sampled_from(KINDS), st.integers(1, 5), st.integers(1, 4))
def test_the_first_of_each_stays(pool: Pool, by: By, partitions: int, rows: int) -> None:
    assert in_steps(pool, by, partitions, rows) == literal(pool, by)


def one(url: str = "", key: str = "", *texts: str | None, uid: str | None = None) -> Row:
    return {"url": url, "key": key, "texts": list(texts), "uid": uid}


def test_a_record_keeps_its_own_texts_and_loses_all_of_them() -> None:
    pool = [[[one("u", "", "a", "a", "b")], [one("u", "", None, "c", "d")]], [[one("u", "", "a")]]]
    assert in_steps(pool, "url", 3, 2) == [[False, False, False, False, True, True], [True]]
    assert in_steps(pool, "uid", 3, 2) == [[False, True, False, False, False, False], [True]]


def test_a_row_whose_texts_are_all_rejected_stands_for_none() -> None:
    assert in_steps(
        [[[one("u", "", None), one("u", "", "a"), one("u", "", "b")]]], "url", 1, 9
    ) == [[False, False, True]]


def test_a_row_that_nothing_names_is_no_duplicate() -> None:
    assert in_steps([[[one("", "", "a"), one("", "", "a")]]], "url", 1, 9) == [[False, False]]


def test_ids_that_share_a_half_differ() -> None:
    ids = np.array([[1, 2], [2, 1], [1, 1], [2, 2], [1, 2]], np.uint64)
    firsts, repeats = decide(ids, np.arange(5))
    assert (firsts.tolist(), repeats.tolist()) == ([0, 1, 2, 3], [4])


def test_uids_that_begin_alike_are_spread() -> None:
    ids = np.stack([np.zeros(10_000), np.arange(10_000)], 1).astype(np.uint64)
    sections = part(Keys(ids, np.arange(10_000, dtype=np.uint32)), 4)
    sizes = [len(Keys.from_bytes(section)) for section in sections[:4]]
    assert sum(sizes) == 10_000
    assert min(sizes) > 2_300
    assert sections[4] == b""


def test_one_id_all_over_costs_a_partition_one_key_per_task() -> None:
    ids = np.ones((1000, 2), np.uint64)
    sections = part(Keys(ids, np.arange(1000, dtype=np.uint32)), 2)
    assert sorted(len(Keys.from_bytes(section)) for section in sections[:2]) == [0, 1]
    assert np.frombuffer(sections[2], "<u4").tolist() == list(range(1, 1000))


@pytest.mark.parametrize(("rows", "partitions"), [(0, 1), (1, 1), (100, 1), (101, 2), (2000, 20)])
def test_partitions_follow_from_rows(rows: int, partitions: int) -> None:
    assert Dedup.of("uid", rows, 10) == Dedup("uid", partitions)
    assert Dedup.of(None, rows, 10) is None


def test_kinds_are_named() -> None:
    assert [parse_kind(name) for name in ("", "uid", "url")] == [None, "uid", "url"]
    with pytest.raises(InvalidInputError, match="unknown dedup 'text'; known: uid, url"):
        parse_kind("text")
