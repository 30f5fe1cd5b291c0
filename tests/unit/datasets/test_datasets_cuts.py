from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clipcurate.balancing import Cut, tail_share_of, threshold_for
from clipcurate.balancing.cut import RANK, Ranks
from clipcurate.datasets.cuts import base_thresholds, resolve_cuts
from clipcurate.datasets.request import EmissionRequest
from clipcurate.errors import InvalidInputError

COUNTS = {"en": np.array([1, 3, 6, 10]), "zh": np.array([5, 5]), "th": np.array([0, 700, 33])}
BALANCED = EmissionRequest("balanced", t=4.0)
BASES = {"en": 4.5, "th": 33.0, "zh": 5.0}
"""What t = 4.5 (a share of .2) gives: checked in test_balancing_tail."""


def test_targets_become_cuts() -> None:
    counts = {name: COUNTS[name] for name in ("en", "zh")}
    for kind in ("raw", "matched"):
        assert resolve_cuts(EmissionRequest(kind), counts, []) == {}
    assert resolve_cuts(BALANCED, counts, []) == {"en": Cut(4.0), "zh": Cut(5.0)}
    assert resolve_cuts(BALANCED, {"all": counts["en"]}, []) == {"all": Cut(4.0)}
    shares = resolve_cuts(EmissionRequest("balanced", tail_share=0.15), counts, [])
    assert shares == {name: Cut(threshold_for(counts[name], 0.15)) for name in counts}
    assert tail_share_of(counts["en"], shares["en"].t) == 0.05
    with pytest.raises(InvalidInputError, match="one language"):
        resolve_cuts(replace(BALANCED, semantics="record"), counts, [])


@dataclass
class Part:
    critical: npt.NDArray[np.float64]
    ranks: Ranks
    rows_by_language: dict[str, npt.NDArray[np.int64]]


Pair = tuple[str, float, int, int]
"""Language, critical t, uid, row."""
CRITICAL = st.sampled_from([0.5, 4.5, 5.0, 33.0, 66.0, 9.0, 10.0]) | st.floats(1e-9, 1e6)
POOL = st.lists(
    st.tuples(st.sampled_from([*BASES, "xx"]), CRITICAL, st.integers(0, 1)), min_size=1, max_size=20
)


def part_of(pairs: list[Pair]) -> Part:
    ranks = np.zeros(len(pairs), RANK)
    ranks["uid"][:, 1] = [uid for _, _, uid, _ in pairs]
    ranks["row"] = [row for *_, row in pairs]
    names = {name for name, *_ in pairs}
    rows = {n: np.array([i for i, pair in enumerate(pairs) if pair[0] == n]) for n in names}
    return Part(np.array([c for _, c, _, _ in pairs]), ranks, rows)


@given(POOL, st.integers(1, 3))
def test_a_size_takes_the_first_by_their_ratio_to_the_base(
    pool: list[tuple[str, float, int]], split: int
) -> None:
    pairs: list[Pair] = [(*pair, row) for row, pair in enumerate(pool)]
    parts = [part_of(pairs[i::split]) for i in range(split)]
    order = sorted((c / BASES[n], uid, row) for n, c, uid, row in pairs if n in BASES)
    for size in range(1, len(order) + 1):
        request = EmissionRequest("balanced", size=size, t=4.5)
        cuts = resolve_cuts(request, COUNTS, parts)
        kept = [
            pairs[i::split][row]
            for i, part in enumerate(parts)
            for name, rows in part.rows_by_language.items()
            if name in cuts
            for row in rows[cuts[name].keeps(part.critical[rows], part.ranks[rows].__getitem__)]
        ]
        assert sorted((c / BASES[n], uid, row) for n, c, uid, row in kept) == order[:size]
        assert {cut.base for cut in cuts.values()} == set(BASES.values())
    request = EmissionRequest("balanced", size=len(order) + 1, t=4.5)
    with pytest.raises(InvalidInputError, match=f"ask for 1 to {len(order)}"):
        resolve_cuts(request, COUNTS, parts)


def test_the_base_by_default_and_a_base_of_zero() -> None:
    sized = EmissionRequest("balanced", size=1)
    assert base_thresholds(sized.for_languages(COUNTS), COUNTS) == {
        name: threshold_for(array, 0.06) for name, array in COUNTS.items()
    }
    part = part_of([("en", 4.0, 0, 0), ("th", 1e-300, 0, 1)])
    literal = EmissionRequest("balanced", size=1, tail_share=0.01, tail_rule="literal")
    cuts = resolve_cuts(literal, COUNTS, [part])
    assert base_thresholds(literal, COUNTS)["th"] == 0
    assert (cuts["en"].t, cuts["th"]) == (4.0, Cut(0.0)), "th is dropped, as by the share itself"
    with pytest.raises(InvalidInputError, match="1 pairs can be kept"):
        resolve_cuts(replace(literal, size=2), COUNTS, [part])
