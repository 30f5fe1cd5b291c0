"""What becomes of each pair of a task: its critical t, whether it is kept, its outcome."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from clipcurate.balancing import (
    Cut,
    Groups,
    choice_draws,
    critical_t,
    keep_probability,
    size_law,
)
from clipcurate.balancing.cut import Ranks
from clipcurate.balancing.semantics import Semantics, SizeLaw
from clipcurate.datasets.match_index import MatchIndex, Status
from clipcurate.datasets.request import EmissionRequest, Kind
from clipcurate.datasets.snapshot import Counts

_NEVER_EMITTED = (Status.REJECTED, Status.FILTERED, Status.DUPLICATE)


@dataclass
class Totals:
    """The seven outcomes of pairs; they add up to the pairs read."""

    rejected: int = 0
    filtered: int = 0
    duplicate: int = 0
    unmatched: int = 0
    not_chosen: int = 0
    dropped: int = 0
    kept: int = 0

    def __add__(self, other: "Totals") -> "Totals":
        """Add outcome by outcome."""
        return Totals(**{name: value + getattr(other, name) for name, value in vars(self).items()})

    @property
    def pairs(self) -> int:
        """Pairs read."""
        return sum(vars(self).values())


@dataclass(frozen=True)
class Scored:
    """A task's match index with the critical t of its pairs."""

    index: MatchIndex
    critical: npt.NDArray[np.float64]

    @cached_property
    def status(self) -> npt.NDArray[np.uint8]:
        """The index's, but NOT_CHOSEN where a pair is matched and no t keeps it."""
        passed = (self.index.status == Status.MATCHED) & np.isinf(self.critical)
        return np.where(passed, np.uint8(Status.NOT_CHOSEN), self.index.status)

    @property
    def ranks(self) -> Ranks:
        """What breaks ties of critical t."""
        return self.index.ranks

    @property
    def rows_by_language(self) -> dict[str, npt.NDArray[np.int64]]:
        """The index's."""
        return self.index.rows_by_language


def score(index: MatchIndex, counts: Counts, request: EmissionRequest) -> npt.NDArray[np.float64]:
    """Return the smallest t at which a dataset has each pair; inf if it never has.

    That is so for pairs without hits, and for those that the request's semantics passes over. Where
    rows are grouped, semantics needs the whole pool (`grouping`): here each pair has its own coin.
    """
    tosses = (request.seed, request.round)
    critical = np.full(len(index), np.inf)
    for name in index.hits_by_language():
        mine, matches = index.rows_by_language[name], index.in_language(name)
        critical[mine] = critical_t(matches, counts[name], index.coin_keys[mine], *tosses)
    if request.semantics == "pair" or request.group:
        return critical
    matched, images = _images(index)
    if request.semantics == "record":
        critical[matched] = images.least(critical[matched])
    else:
        draws = choice_draws(index.coin_keys[matched], index.text_index[matched], *tosses)
        critical[matched[~images.winners(draws)]] = np.inf
    return critical


def _images(index: MatchIndex) -> tuple[npt.NDArray[np.int64], Groups]:
    """Return the positions of the matched pairs, and which of them are one pool row's."""
    matched = np.flatnonzero(index.status == Status.MATCHED)
    return matched, Groups.of(index.shard[matched], index.row[matched])


def law_of_size(
    index: MatchIndex, counts: Counts, cuts: Mapping[str, Cut], semantics: Semantics
) -> SizeLaw:
    """Return the mean and variance over seeds of the index's kept pairs, in the cuts' languages."""
    matched, images = _images(index)
    return size_law(semantics, keep_probabilities(index, counts, cuts)[matched], images)


def keep_probabilities(
    index: MatchIndex, counts: Counts, cuts: Mapping[str, Cut]
) -> npt.NDArray[np.float64]:
    """Return q of each pair, shape (n,), at its language's cut; 0 in languages without one."""
    q = np.zeros(len(index))
    for name, rows in index.rows_by_language.items():
        if name in cuts:
            q[rows] = keep_probability(index.in_language(name), counts[name], cuts[name].t)
    return q


def kept_mask(kind: Kind, cuts: Mapping[str, Cut], scored: Scored) -> npt.NDArray[np.bool_]:
    """Return which pairs an emission keeps; `cuts` are per metadata language."""
    index = scored.index
    if kind == "raw":
        return ~np.isin(index.status, _NEVER_EMITTED)
    matched: npt.NDArray[np.bool_] = scored.status == Status.MATCHED
    if kind == "matched":
        return matched
    kept = np.zeros(len(index), np.bool_)
    for name, rows in index.rows_by_language.items():
        if name in cuts:
            mine = rows[matched[rows]]
            kept[mine] = _kept(cuts[name], scored, mine)
    return kept


def _kept(cut: Cut, scored: Scored, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    return cut.keeps(scored.critical[rows], lambda ties: scored.index.ranks_of(rows[ties]))


def totals_of(scored: Scored, kept: npt.NDArray[np.bool_]) -> Totals:
    """Return the outcomes of a task's pairs."""
    lost = np.bincount(scored.status[~kept], minlength=len(Status)).tolist()
    return Totals(
        rejected=lost[Status.REJECTED],
        filtered=lost[Status.FILTERED],
        duplicate=lost[Status.DUPLICATE],
        unmatched=lost[Status.UNMATCHED],
        not_chosen=lost[Status.NOT_CHOSEN],
        dropped=lost[Status.MATCHED],
        kept=int(kept.sum()),
    )


def first_kept(index: MatchIndex, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return a mask that is true at the first kept pair of every pool row that has one."""
    positions = np.flatnonzero(kept)
    rows, shards = index.row[positions], index.shard[positions]
    first = np.ones(len(positions), np.bool_)
    first[1:] = (rows[1:] != rows[:-1]) | (shards[1:] != shards[:-1])
    mask = np.zeros(len(index), np.bool_)
    mask[positions[first]] = True
    return mask
