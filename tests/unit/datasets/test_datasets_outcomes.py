import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.balancing import Cut, Groups, Semantics
from clipcurate.datasets.match_index import MatchIndex, Status
from clipcurate.datasets.outcomes import (
    Scored,
    Totals,
    first_kept,
    kept_mask,
    law_of_size,
    score,
    totals_of,
)
from clipcurate.datasets.request import EmissionRequest
from clipcurate.languages import names_of
from clipcurate.matching import Matches
from clipcurate.metadata import ALL


@given(st.lists(st.lists(st.integers(0, 99), min_size=7, max_size=7), max_size=4))
def test_totals_add_up(rows: list[list[int]]) -> None:
    total = sum((Totals(*row) for row in rows), Totals())
    assert list(vars(total).values()) == [sum(row[i] for row in rows) for i in range(7)]
    assert total.pairs == sum(map(sum, rows))


STATUSES = st.lists(
    st.tuples(st.sampled_from(Status), st.sampled_from([1.0, 4.0, 5.0])), max_size=9
)


def index_with(statuses: list[tuple[Status, float]]) -> Scored:
    n = len(statuses)
    index = MatchIndex(
        shard=np.zeros(n, np.int32),
        row=np.arange(n),
        text_index=np.zeros(n, np.int32),
        uids=np.zeros((n, 2), np.uint64),
        coin_keys=np.zeros((n, 2), np.uint64),
        language=names_of(pa.array([ALL] * n, pa.string())),
        status=np.array([status for status, _ in statuses], np.uint8),
        reason=pa.nulls(n, pa.string()).dictionary_encode(),
        row_bytes=np.ones(n, np.int64),
        matches=Matches(np.zeros(n + 1, np.int64), np.zeros(0, np.uint32)),
        extras=pa.schema([]),
    )
    return Scored(index, np.array([critical for _, critical in statuses], np.float64))


@given(STATUSES)
def test_every_pair_has_one_of_seven_outcomes(statuses: list[tuple[Status, float]]) -> None:
    scored = index_with(statuses)
    readable = {Status.UNMATCHED, Status.NOT_CHOSEN, Status.MATCHED}
    expected = {
        "raw": [status in readable for status, _ in statuses],
        "matched": [status == Status.MATCHED for status, _ in statuses],
        "balanced": [status == Status.MATCHED and t <= 4.0 for status, t in statuses],
    }
    for kind, mask in expected.items():
        kept = kept_mask(kind, {ALL: Cut(4.0)}, scored)  # type: ignore[arg-type]
        assert kept.tolist() == mask
        totals = totals_of(scored, kept)
        assert totals.pairs == len(statuses)
        assert totals.kept == sum(mask)
        assert totals.rejected == sum(s == Status.REJECTED for s, _ in statuses)
        assert totals.filtered == sum(s == Status.FILTERED for s, _ in statuses)
        assert totals.duplicate == sum(s == Status.DUPLICATE for s, _ in statuses)
        assert totals.not_chosen == sum(s == Status.NOT_CHOSEN for s, _ in statuses) - sum(
            s == Status.NOT_CHOSEN and keeps for (s, _), keeps in zip(statuses, mask, strict=True)
        )
    assert totals.dropped == sum(s == Status.MATCHED and t > 4.0 for s, t in statuses)


def test_cuts_are_per_language() -> None:
    scored = index_with([(Status.MATCHED, 1.0), (Status.MATCHED, 4.0), (Status.MATCHED, 1.0)])
    languages = names_of(pa.array(["all", "all", "zh"]))
    scored = replace(scored, index=replace(scored.index, language=languages))
    assert kept_mask("balanced", {"all": Cut(4.0)}, scored).tolist() == [True, True, False]
    cuts = {"all": Cut(1.0), "zh": Cut(0.5)}
    assert kept_mask("balanced", cuts, scored).tolist() == [True, False, False]


@given(STATUSES, st.data())
def test_ties_of_each_language_go_by_rank(
    statuses: list[tuple[Status, float]], data: st.DataObject
) -> None:
    scored, n = index_with(statuses), len(statuses)
    names = data.draw(st.lists(st.sampled_from(["en", "zh"]), min_size=n, max_size=n))
    index = replace(scored.index, language=names_of(pa.array(names, pa.string())))
    last = {name: data.draw(st.integers(0, 9)) for name in ("en", "zh")}
    cuts = {name: Cut(4.0, index_with([(Status.MATCHED, 4.0)] * 10).ranks[row].tobytes())
            for name, row in last.items()}  # fmt: skip
    assert kept_mask("balanced", cuts, replace(scored, index=index)).tolist() == [
        status == Status.MATCHED and (t, row) <= (4.0, last[name])
        for row, ((status, t), name) in enumerate(zip(statuses, names, strict=True))
    ]


def test_first_kept_marks_one_pair_per_row() -> None:
    scored = index_with([(Status.MATCHED, 1.0)] * 6)
    scored.index.row[:] = [0, 0, 0, 1, 1, 1]
    scored.index.shard[:] = [0, 0, 0, 0, 1, 1]
    kept = np.array([False, True, True, True, False, True])
    assert first_kept(scored.index, kept).tolist() == [False, True, False, True, False, True]


Images = list[list[list[int]]]
"""Per image, per matched text: the entries."""


def index_of(images: Images, seed: int = 0) -> MatchIndex:
    """Return images as pool rows whose texts have distinct coin keys."""
    texts = [
        (row, place, ids) for row, image in enumerate(images) for place, ids in enumerate(image)
    ]
    scored = index_with([(Status.MATCHED if ids else Status.UNMATCHED, 0.0) for *_, ids in texts])
    keys = np.random.default_rng(seed).integers(0, 1 << 64, (len(texts), 2), np.uint64)
    hits = Matches(
        np.cumsum([0, *[len(ids) for *_, ids in texts]]),
        np.array([entry for *_, ids in texts for entry in ids], np.uint32),
    )
    return replace(
        scored.index,
        row=np.array([row for row, *_ in texts], np.int64),
        text_index=np.array([place for _, place, _ in texts], np.int32),
        coin_keys=keys,
        matches=hits,
    )


@pytest.fixture(scope="module")
def pool() -> tuple[Images, MatchIndex, dict[str, Any]]:
    """2,000 images of up to 4 texts over long-tailed entries; some texts match nothing."""
    rng = np.random.default_rng(5)
    weights = 1 / np.arange(1, 201)

    def text() -> list[int]:
        return sorted(set(rng.choice(200, rng.integers(0, 5), p=weights / weights.sum()).tolist()))

    images = [[text() for _ in range(rng.integers(1, 5))] for _ in range(2000)]
    index = index_of(images)
    return images, index, {ALL: np.bincount(index.matches.entry_ids, minlength=200)}


SEEDS = 200
T = 25.0


def curate(images: Images, prob: list[float], rng: random.Random) -> int:
    """Meta CLIP 2's curate.py, stages 1 to 3, for the images of one language."""
    curated = {}
    for uuid, image in enumerate(images):
        txt_tuples = [matched for matched in image if len(matched) > 0]
        if not txt_tuples:
            continue
        matched = rng.choice(txt_tuples)
        p = 1.0 - math.prod(1.0 - prob[entry] for entry in matched)
        if p < rng.random():
            continue
        curated[uuid] = matched
    return len(curated)


def balancing(images: Images, prob: list[float], rng: random.Random) -> int:
    """MetaCLIP's balancing.py; records with a survivor, in texts (cc_matching.py keeps matched)."""
    d_star = set()
    for rec, image in enumerate(images):
        for matched in image:
            if any(rng.random() < prob[entry] for entry in matched):
                d_star.add(rec)
    return sum(len([text for text in images[rec] if text]) for rec in d_star)


def algorithm_1(images: Images, prob: list[float], rng: random.Random) -> int:
    """Alg. 1 of the paper: a coin per entry of each pair, the first success keeps it."""
    return sum(any(rng.random() < prob[e] for e in text) for image in images for text in image)


SOURCES = {"pair": algorithm_1, "metaclip2": curate, "record": balancing}


@pytest.mark.parametrize("semantics", SOURCES)
def test_sizes_are_those_of_the_published_source(pool, semantics: Semantics) -> None:  # type: ignore[no-untyped-def]
    images, index, counts = pool
    cuts = {ALL: Cut(T)}
    law = law_of_size(index, counts, cuts, semantics)
    requests = [
        EmissionRequest("balanced", t=T, seed=seed, semantics=semantics) for seed in range(SEEDS)
    ]
    scored = [Scored(index, score(index, counts, request)) for request in requests]
    sizes = [int(kept_mask("balanced", cuts, one).sum()) for one in scored]
    deviation = float(np.sqrt(law.variance.sum()))
    error = deviation / math.sqrt(SEEDS)
    assert abs(np.mean(sizes) - law.mean.sum()) < 4 * error
    spread_error = deviation / math.sqrt(2 * (SEEDS - 1))
    assert abs(np.std(sizes, ddof=1) - deviation) < 4 * spread_error
    prob = np.minimum(1, T / np.maximum(counts[ALL], 1)).tolist()
    drawn = [SOURCES[semantics](images, prob, random.Random(seed)) for seed in range(SEEDS)]
    assert abs(np.mean(sizes) - np.mean(drawn)) < 4 * math.sqrt(2) * error
    assert abs(np.std(sizes) - np.std(drawn)) < 4 * math.sqrt(2) * spread_error


@pytest.mark.parametrize("seed", range(3))
def test_one_text_of_an_image_or_all(pool, seed: int) -> None:  # type: ignore[no-untyped-def]
    images, index, counts = pool
    own, chosen, whole = (
        score(index, counts, EmissionRequest("matched", seed=seed, semantics=name))
        for name in ("pair", "metaclip2", "record")
    )
    for row, image in enumerate(images):
        mine = np.flatnonzero((index.row == row) & (index.status == Status.MATCHED))
        assert len(mine) == sum(bool(text) for text in image)
        if len(mine):
            left = mine[np.isfinite(chosen[mine])]
            assert len(left) == 1
            assert chosen[left] == own[left]
            assert (whole[mine] == own[mine].min()).all()
    unmatched = index.status == Status.UNMATCHED
    assert all(np.isinf(critical[unmatched]).all() for critical in (own, chosen, whole))


@pytest.mark.parametrize("semantics", ["metaclip2", "record"])
@pytest.mark.parametrize("t", [0.5, T])
def test_outcomes_add_up_in_their_order(pool, semantics: Semantics, t: float) -> None:  # type: ignore[no-untyped-def]
    images, index, counts = pool
    request = EmissionRequest("balanced", t=t, seed=1, semantics=semantics)
    scored = Scored(index, score(index, counts, request))
    kept = kept_mask("balanced", {ALL: Cut(t)}, scored)
    totals = totals_of(scored, kept)
    matched = [sum(bool(text) for text in image) for image in images]
    assert totals.pairs == sum(map(len, images))
    assert totals.unmatched == totals.pairs - sum(matched)
    images_kept = len(np.unique(index.row[kept]))
    if semantics == "metaclip2":
        assert totals.not_chosen == sum(number - 1 for number in matched if number)
        assert totals.kept == images_kept
    else:
        assert totals.not_chosen == 0
        assert totals.kept == sum(matched[row] for row in np.unique(index.row[kept]))
    assert 0 < totals.kept < sum(matched)
    assert totals.dropped == sum(matched) - totals.not_chosen - totals.kept
    everything = totals_of(scored, kept_mask("matched", {}, scored))
    assert (everything.dropped, everything.not_chosen) == (0, totals.not_chosen)


def test_each_text_is_chosen_equally_often_whatever_its_coin(pool) -> None:  # type: ignore[no-untyped-def]
    _, index, counts = pool
    requests = [
        EmissionRequest("matched", seed=seed, semantics="metaclip2") for seed in range(SEEDS)
    ]
    chosen = sum(np.isfinite(score(index, counts, request)).astype(int) for request in requests)
    matched = np.flatnonzero(index.status == Status.MATCHED)
    images = Groups.of(index.row[matched])
    share = np.repeat(1 / images.lengths, images.lengths)
    several = share < 1
    z = (chosen[matched] - SEEDS * share)[several] / np.sqrt(SEEDS * share * (1 - share))[several]
    assert abs(np.mean(z**2) - 1) < 0.1
    assert np.abs(z).max() < 5
    assert (chosen[matched][~several] == SEEDS).all()


def test_the_law_of_a_language_alone(pool) -> None:  # type: ignore[no-untyped-def]
    """Meta CLIP 2 chooses among an image's texts of all languages, then takes the text's t."""
    _, index, _ = pool
    languages = np.where(np.arange(len(index)) % 2, "en", "zh")
    index = replace(index, language=names_of(pa.array(languages, pa.string())))
    counts = {name: np.zeros(200, np.int64) for name in ("en", "zh")}
    index.add_to(counts)
    cuts = {"en": Cut(9.0), "zh": Cut(30.0)}
    requests = [
        EmissionRequest("balanced", t=9.0, seed=s, semantics="metaclip2") for s in range(SEEDS)
    ]
    scored = [Scored(index, score(index, counts, request)) for request in requests]
    for some in (cuts, {"en": cuts["en"]}, {"zh": cuts["zh"]}):
        law = law_of_size(index, counts, some, "metaclip2")
        sizes = [int(kept_mask("balanced", some, one).sum()) for one in scored]
        deviation = math.sqrt(law.variance.sum())
        assert abs(np.mean(sizes) - law.mean.sum()) < 4 * deviation / math.sqrt(SEEDS)
