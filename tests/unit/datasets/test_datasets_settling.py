"""Grouped images against a dictionary, however the pool is cut into tasks."""

import math
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.balancing import Cut, choice_draws
from clipcurate.datasets.grouping import ENTRY, Entries, ImageIds, gather, sum_up
from clipcurate.datasets.match_index import MatchIndex, Status
from clipcurate.datasets.outcomes import Scored, Totals, first_kept, kept_mask, score, totals_of
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.settling import Sums, overruled, settle
from clipcurate.datasets.task_summary import UNIT, TaskSummary
from clipcurate.languages import names_of
from clipcurate.matching import Matches
from clipcurate.metadata import ALL

COUNTS = {ALL: np.array([1, 3, 9, 30])}
CUTS = {ALL: Cut(2.5)}
Text = tuple[int, int, list[int], int]
"""Image (0: no id), row (as a step from the row before), entries, coin key."""
TEXT = st.tuples(
    st.integers(0, 3),
    st.integers(0, 1),
    st.lists(st.integers(0, 3), unique=True, max_size=3).map(sorted),
    st.integers(1, 3),
)
POOLS = st.tuples(st.lists(TEXT, max_size=14), st.lists(st.integers(0, 14), max_size=3))
REQUESTS = [
    EmissionRequest(kind, t=t, seed=3, semantics=semantics, group="url")  # type: ignore[arg-type]
    for kind, t in (("balanced", 2.5), ("matched", None))
    for semantics in ("metaclip2", "record")
]


def index_of(texts: list[Text]) -> MatchIndex:
    """Return texts as a pool; a new row begins where the image changes, or by its step."""
    rows, places = [0], [0]
    for before, text in pairwise(texts):
        new = before[0] != text[0] or text[1]
        rows.append(rows[-1] + bool(new))
        places.append(0 if new else places[-1] + 1)
    n = len(texts)
    keys = np.array([[0, key] for *_, key in texts], np.uint64).reshape(-1, 2)
    return MatchIndex(
        shard=np.zeros(n, np.int32),
        row=np.array(rows[:n], np.int64),
        text_index=np.array(places[:n], np.int32),
        uids=keys,
        coin_keys=keys,
        language=names_of(pa.array([ALL] * n, pa.string())),
        status=np.array([Status.MATCHED if t[2] else Status.UNMATCHED for t in texts], np.uint8),
        reason=pa.nulls(n, pa.string()).dictionary_encode(),
        row_bytes=np.array(rows[:n], np.int64) + 10,
        matches=Matches(
            np.cumsum([0, *(len(t[2]) for t in texts)]),
            np.array([entry for t in texts for entry in t[2]], np.uint32),
        ),
        extras=pa.schema([]),
    )


def piece(index: MatchIndex, first: int, last: int) -> MatchIndex:
    columns = {
        name: getattr(index, name)[first:last]
        for name in MatchIndex.__dataclass_fields__
        if name not in ("matches", "extras")
    }
    return replace(index, **columns, matches=index.matches.take(np.arange(first, last)))


def literal(texts: list[Text], index: MatchIndex, own: Any, semantics: str) -> list[float]:
    """Return the critical t of each text."""
    places = (index.shard, index.row)
    draws = choice_draws(index.coin_keys, index.text_index, 3, 0, places=places).tolist()
    images = defaultdict(list)
    for place, (image, _, entries, _) in enumerate(texts):
        if entries:
            images[image or ("row", index.row[place])].append(place)
    critical = [math.inf] * len(texts)
    for members in images.values():
        winner = min(members, key=lambda place: draws[place])
        for place in [winner] if semantics == "metaclip2" else members:
            critical[place] = (
                own[winner] if semantics == "metaclip2" else min(own[m] for m in members)
            )
    return critical


def sections_of(entries: Entries, partitions: int) -> list[Entries]:
    return [entries[entries["id"][:, 1] % partitions == number] for number in range(partitions)]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: f"{r.kind}-{r.semantics}")
@given(pool=POOLS, partitions=st.integers(1, 3))
def test_any_cut_gives_what_a_dictionary_gives(
    request_: EmissionRequest, pool: tuple[list[Text], list[int]], partitions: int
) -> None:
    texts, edges = pool
    cuts = CUTS if request_.kind == "balanced" else {}
    index = index_of(texts)
    rows = np.append(index.row, -1)
    starts = {e for e in edges if 0 < e < len(texts) and rows[e] != rows[e - 1]}
    bounds = [0, *sorted(starts), len(texts)]
    ids = np.array([[0, image] for image, *_ in texts], np.uint64).reshape(-1, 2)
    parts = [piece(index, a, b) for a, b in pairwise(bounds)]
    tasks, left, summaries = [], [], []
    for (a, b), part in zip(pairwise(bounds), parts, strict=True):
        own = Scored(part, score(part, COUNTS, request_))
        task = gather(own, ImageIds(ids[a:b], ids[a:b, 1] > 0), request_)
        entries, summary = sum_up(task, request_, COUNTS, cuts)
        tasks.append(task)
        left.append(sections_of(entries, partitions))
        summaries.append(summary)
    settled = [settle([some[number] for some in left], request_) for number in range(partitions)]
    sums = sum((Sums.from_bytes(one.to_bytes()) for _, one in settled), Sums.none(len(parts)))
    wanted = literal(texts, index, score(index, COUNTS, request_), request_.semantics)
    for number, (task, first) in enumerate(zip(tasks, bounds, strict=False)):
        changes = np.concatenate([changes[number] for changes, _ in settled])
        scored = overruled(task.settled, task.head_of, changes)
        assert scored.critical.tolist() == wanted[first : first + len(scored.index)]
        kept = kept_mask(request_.kind, cuts, scored)
        ones = first_kept(scored.index, kept)
        corrected = sums.of(number, summaries[number])
        assert corrected.totals == totals_of(scored, kept)
        assert corrected.records == ones.sum()
        assert corrected.nbytes == scored.index.row_bytes[ones].sum()
    _same_law(texts, index, request_, [sums.of(n, s) for n, s in enumerate(summaries)])


def _same_law(
    texts: list[Text], index: MatchIndex, request: EmissionRequest, found: list[TaskSummary]
) -> None:
    """Hold the mean and the variance of the size against their definitions."""
    mean = sum(task.expected for task in found) / UNIT
    variance = sum(task.variance for task in found) / UNIT
    if request.kind == "matched":
        assert (mean, variance) == (sum((s.totals for s in found), Totals()).kept, 0)
        return
    images = defaultdict(list)
    for place, (image, _, entries, _) in enumerate(texts):
        if entries:
            miss = math.prod(1 - min(1, 2.5 / COUNTS[ALL][entry]) for entry in entries)
            images[image or ("row", index.row[place])].append(1 - miss)
    sizes = [len(q) if request.semantics == "record" else 1 for q in images.values()]
    if request.semantics == "record":
        shares = [1 - math.prod(1 - one for one in q) for q in images.values()]
    else:
        shares = [sum(q) / len(q) for q in images.values()]
    exact = [(n * p, n * n * p * (1 - p)) for n, p in zip(sizes, shares, strict=True)]
    assert mean == pytest.approx(sum(m for m, _ in exact), abs=1e-6)
    assert variance == pytest.approx(sum(v for _, v in exact), abs=1e-5)


@pytest.mark.parametrize("semantics", ["metaclip2", "record"])
def test_an_image_in_a_billion_texts_is_one_entry_a_task(semantics: str) -> None:
    rows: list[Text] = [(1, 1, [0, 1], 1)] * 500
    index = index_of(rows)
    request = REQUESTS[0] if semantics == "metaclip2" else REQUESTS[1]
    ids = ImageIds(np.tile(np.array([[0, 1]], np.uint64), (500, 1)), np.ones(500, np.bool_))
    task = gather(Scored(index, score(index, COUNTS, request)), ids, request)
    entries, _ = sum_up(task, request, COUNTS, CUTS)
    assert entries["texts"].tolist() == [500]


def test_equal_draws_go_to_the_first_task() -> None:
    entries = np.zeros(1, ENTRY)
    entries["value"], entries["texts"], entries["head"] = 7, 1, 5
    changes, sums = settle([entries, entries[:0], entries, entries], REQUESTS[0])
    assert [one["head"].tolist() for one in changes] == [[], [], [5], [5]]
    assert sums.deltas[:, 2].tolist() == [0, 0, 1, 1]
