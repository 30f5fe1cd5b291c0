from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipcurate.datasets.match_index import (
    MatchIndex,
    Status,
    extras_from_hex,
    extras_to_hex,
    from_lists,
    index_pairs,
    to_lists,
)
from clipcurate.datasets.outcomes import score
from clipcurate.datasets.request import EmissionRequest
from clipcurate.languages import Names, Router, names_of
from clipcurate.matching import Matcher, Matches
from clipcurate.pools import PAIR_SCHEMA

MATCHER = Matcher.build(["dog", "cat", "猫"])
UID = st.none() | st.integers(0, 2**128 - 1).map(lambda n: f"{n:032x}")
PAIR = st.fixed_dictionaries(
    {
        "uid": UID,
        "key": st.text("ab\0é", max_size=3),
        "text": st.none() | st.sampled_from(["dog", "a cat and a dog", "", "x", "猫", "\0dog"]),
    }
)


def pairs_of(rows: list[dict[str, Any]]) -> pa.Table:
    filled = [
        {
            "row": number,
            "text_index": 0,
            "url": "",
            "lang": "",
            "reject": "no_text" if row["text"] is None else None,
            "row_bytes": 10,
        }
        | row
        for number, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(filled, PAIR_SCHEMA)


def names(values: list[str]) -> Names:
    return names_of(pa.array(values, pa.string()))


def index_of(rows: list[dict[str, Any]], extras: pa.Schema | None = None) -> MatchIndex:
    pairs = pairs_of(rows)
    languages = names(["all"] * len(rows))
    return index_pairs(pairs, 3, extras or pa.schema([]), MATCHER.match(pairs["text"]), languages)


def same(one: MatchIndex, two: MatchIndex) -> bool:
    def arrays(index: MatchIndex) -> list[Any]:
        coded = {"language", "reason"}
        fields = index.__dataclass_fields__.keys() - {"matches", "extras"} - coded
        values = [getattr(index, name) for name in sorted(fields)]
        return [*values, index.matches.row_offsets, index.matches.entry_ids]

    def labels(index: MatchIndex) -> list[list[str | None]]:
        return [index.language.tolist(), index.reason.tolist()]

    pairs = list(zip(arrays(one), arrays(two), strict=True))
    equal = all(np.array_equal(a, b) for a, b in pairs)
    kinds = all(a.dtype == b.dtype and a.shape == b.shape for a, b in pairs)
    return equal and kinds and labels(one) == labels(two) and one.extras == two.extras


def test_statuses_reasons_and_languages() -> None:
    rows = [
        {"uid": None, "key": "k", "text": "dog"},
        {"uid": None, "key": "k", "text": "dogs"},
        {"uid": None, "key": "k", "text": None, "reject": "invalid_utf8"},
    ]
    index = index_of(rows)
    assert index.status.tolist() == [Status.MATCHED, Status.UNMATCHED, Status.REJECTED]
    assert index.reason.tolist() == [None, None, "invalid_utf8"]
    assert index.rejections() == {"invalid_utf8": 1}
    assert index.language.tolist() == ["all", "all", ""]
    assert list(index.rows_by_language) == ["all"]
    assert index.hits_by_language() == {"all": 1}
    assert index.shard.tolist() == [3, 3, 3]


def test_duplicates_are_neither_matched_nor_in_a_language() -> None:
    rows = [{"uid": None, "key": "k", "text": text} for text in ("dog", "dog", None, "dogs")]
    pairs, languages = pairs_of(rows), names(["all"] * 4)
    duplicate = np.array([False, True, False, True])
    texts = pa.chunked_array([["dog", None, None, None]], pa.large_string())
    matches = MATCHER.match(texts)
    index = index_pairs(pairs, 0, pa.schema([]), matches, languages, duplicate)
    expected = ["MATCHED", "DUPLICATE", "REJECTED", "DUPLICATE"]
    assert [Status(status).name for status in index.status] == expected
    assert index.language.tolist() == ["all", "", "", ""]
    assert index.uids[0].tolist() == index.uids[1].tolist() != [0, 0]
    assert same(MatchIndex.from_bytes(index.to_bytes()), index)


def test_languages_without_metadata_are_unmatched_and_counted() -> None:
    texts = {"dog": "en", "cat": "fr", "a dog": "fr", "x": "en", "dogs": "other"}
    pairs = pairs_of([{"uid": None, "key": "k", "text": text} for text in texts])
    languages = names([*texts.values()])
    router = Router({"en": MATCHER}.get, lambda _: languages)
    matches = router.match(pairs["text"], languages)
    index = index_pairs(pairs, 0, pa.schema([]), matches, languages)
    index = MatchIndex.from_bytes(index.to_bytes())
    assert index.language.tolist() == languages.tolist()
    assert index.hits_by_language() == {"en": 1}
    assert index.unmatched_by_language() == {"en": 1, "fr": 2, "other": 1}
    assert list(index.sparse_counts()) == ["en"]
    assert len(index.in_language("fr")) == 2
    assert len(index.in_language("zh")) == 0
    counts = {"en": np.zeros(len(MATCHER.entries), np.int64)}
    index.add_to(counts)
    assert counts["en"].sum() == 1
    assert np.isinf(score(index, counts, EmissionRequest("matched"))).tolist() == [
        False,
        True,
        True,
        True,
        True,
    ]


def test_records_begin_at_every_row_of_every_shard() -> None:
    places = [(0, 5, 0), (0, 5, 1), (0, 6, 0), (1, 6, 0), (1, 6, 1)]
    index = index_of([{"uid": None, "key": "", "text": "dog", "row": r} for _, r, _ in places])
    index.shard[:] = [shard for shard, _, _ in places]


@pytest.mark.parametrize(
    "extras",
    [
        pa.schema([]),
        pa.schema([("w", pa.int64()), ("tags", pa.list_(pa.string())), ("é", pa.float16())]),
        pa.schema([("s", pa.struct([("a", pa.timestamp("ns", "UTC"))])), ("n", pa.null())]),
    ],
    ids=str,
)
def test_extras_round_trip_through_bytes_and_hex(extras: pa.Schema) -> None:
    index = index_of([{"uid": None, "key": "k", "text": "dog"}], extras)
    assert MatchIndex.from_bytes(index.to_bytes()).extras == extras
    assert extras_from_hex(extras_to_hex(extras.with_metadata({"a": "b"}))) == extras


@settings(max_examples=50)
@given(st.lists(PAIR, max_size=8), st.integers(0, 8))
def test_round_trip_and_concatenation(rows: list[dict[str, Any]], cut: int) -> None:
    rows = [{"row": i} | row for i, row in enumerate(rows)]
    whole = index_of(rows)
    assert same(MatchIndex.from_bytes(whole.to_bytes()), whole)
    parts = [index_of(rows[:cut]), MatchIndex.empty(), index_of(rows[cut:])]
    assert same(MatchIndex.concatenate(parts), whole)


def test_nothing_round_trips() -> None:
    nothing = MatchIndex.empty()
    assert len(nothing) == 0
    assert same(MatchIndex.from_bytes(nothing.to_bytes()), nothing)
    assert nothing.hits_by_language() == {}


def test_ranks_hold_what_breaks_ties() -> None:
    (rank,) = index_of([{"uid": f"{1:032x}", "key": "", "text": "dog", "row": 9}]).ranks
    assert rank.tobytes().hex() == f"{1:032x}" + f"{3:08x}" + f"{9:016x}" + f"{0:08x}"


@given(st.lists(st.sets(st.integers(0, 9)).map(sorted), max_size=6), st.integers(0, 6))
def test_lists_are_the_same_hits(rows: list[list[int]], cut: int) -> None:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    matches = Matches(offsets, np.array([i for row in rows for i in row], np.uint32))
    column = to_lists(matches)
    assert column.to_pylist() == rows
    for some, expected in (
        (pa.chunked_array([column]), rows),
        (pa.chunked_array([column[:cut], column[cut:]]), rows),
        (pa.chunked_array([column]).slice(cut), rows[cut:]),
        (pa.chunked_array([rows], pa.list_(pa.uint32())), rows),
        (pa.chunked_array([], column.type), []),
    ):
        again = from_lists(some)
        assert [again[i].tolist() for i in range(len(again))] == expected
        assert again.row_offsets.dtype == np.int64
        assert again.entry_ids.dtype == np.uint32
