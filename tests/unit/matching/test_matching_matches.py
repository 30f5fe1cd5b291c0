import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.matching import Matches

ROWS = st.lists(st.sets(st.integers(0, 9)).map(sorted), max_size=6)


def csr(rows: list[list[int]]) -> Matches:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return Matches(offsets, np.array([i for row in rows for i in row], np.uint32))


def lists(matches: Matches) -> list[list[int]]:
    assert matches.row_offsets.dtype == np.int64
    assert matches.entry_ids.dtype == np.uint32
    assert matches.row_offsets[0] == 0
    assert matches.row_offsets[-1] == len(matches.entry_ids)
    return [matches[row].tolist() for row in range(len(matches))]


@given(ROWS)
def test_rows_and_their_lengths(rows: list[list[int]]) -> None:
    matches = csr(rows)
    assert lists(matches) == rows
    assert matches.hits_per_text.tolist() == list(map(len, rows))


@given(ROWS.filter(len), st.data())
def test_take_is_indexing(rows: list[list[int]], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    taken = csr(rows).take(np.array(chosen, np.int64))
    assert lists(taken) == [rows[i] for i in chosen]


@given(ROWS)
def test_sparse_counts_are_texts_per_entry(rows: list[list[int]]) -> None:
    ids, counts = csr(rows).sparse_counts()
    expected = {i: sum(i in row for row in rows) for i in range(10)}
    assert dict(zip(ids.tolist(), counts.tolist(), strict=True)) == {
        i: count for i, count in expected.items() if count
    }
    assert ids.tolist() == sorted(ids.tolist())
    assert ids.dtype == counts.dtype == np.uint32


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_concatenate_stacks(parts: list[list[list[int]]]) -> None:
    stacked = Matches.concatenate([csr(rows) for rows in parts])
    assert lists(stacked) == [row for rows in parts for row in rows]
