"""What an emission keeps: its identity, its cut, its totals, and the ranges of its parts."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipcurate.balancing import (
    Cut,
    critical_t,
    exact_size_cut,
    keep_probability,
    thresholds,
    thresholds_for,
)
from clipcurate.balancing.cut import histogram
from clipcurate.datasets.extras import unify_extras
from clipcurate.datasets.match_index import MatchIndex, Status, extras_to_hex
from clipcurate.datasets.snapshot import Counts
from clipcurate.errors import InvalidInputError
from clipcurate.hashing import canonical_json, hash_json

Kind = Literal["raw", "matched", "balanced"]
KINDS: tuple[Kind, ...] = ("raw", "matched", "balanced")
FORMAT = 1
PART_BYTES = 256 << 20
"""Default size of a part, counted in bytes of pool rows."""

_LIMITS = {"seed": 1 << 64, "round": 1 << 32, "part_bytes": 1 << 63}
_UNIT = 1 << 30
_NEVER_EMITTED = (Status.REJECTED, Status.FILTERED, Status.DUPLICATE)


@dataclass(frozen=True)
class EmissionRequest:
    """What determines a dataset, given a run's snapshot.

    Attributes:
        kind: raw (every readable pair), matched (at least one hit), balanced.
        t, size, tail_share: exactly one of them for balanced, none otherwise.
        seed: of the coins.
        round: how often the pool was balanced before.
        part_bytes: bytes of pool rows per part.
    """

    kind: Kind
    t: float | None = None
    size: int | None = None
    tail_share: float | None = None
    seed: int = 0
    round: int = 0
    part_bytes: int = PART_BYTES

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        targets = [x for x in (self.t, self.size, self.tail_share) if x is not None]
        if self.kind not in KINDS:
            raise InvalidInputError(f"unknown kind {self.kind!r}; known: {', '.join(KINDS)}")
        if len(targets) != (self.kind == "balanced"):
            raise InvalidInputError(
                "a balanced emission takes exactly one of t, size and tail share; others take none"
            )
        if self.t is not None and not 0 < self.t < float("inf"):
            raise InvalidInputError(f"t must be positive and finite, not {self.t}")
        if self.size is not None and not 1 <= self.size < 1 << 63:
            raise InvalidInputError(f"size must be at least 1 and below 2**63, not {self.size}")
        if self.tail_share is not None and not 0 < self.tail_share < 1:
            raise InvalidInputError(f"a tail share lies between 0 and 1, not {self.tail_share}")
        for name, limit in _LIMITS.items():
            value = getattr(self, name)
            if not 0 <= value < limit:
                raise InvalidInputError(f"{name} {value} is not between 0 and {limit - 1}")
        if self.part_bytes == 0:
            raise InvalidInputError("part_bytes must be at least 1")

    def identity(self, run: Mapping[str, Any], snapshot: str) -> dict[str, Any]:
        """Return what the emission's id is the hash of.

        Args:
            run: the run's id, rule and metadata fingerprints.
            snapshot: id of its frozen counts.
        """
        t = None if self.t is None else float(self.t).hex()
        target = {"t": t, "size": self.size, "tail_share": self.tail_share}
        return {
            "format": FORMAT,
            "run": dict(run),
            "snapshot": snapshot,
            "kind": self.kind,
            "target": {name: value for name, value in target.items() if value is not None},
            "seed": self.seed,
            "round": self.round,
            "semantics": "pair",
            "part_bytes": self.part_bytes,
        }


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


def score(index: MatchIndex, counts: Counts, seed: int, round: int) -> npt.NDArray[np.float64]:  # noqa: A002
    """Return the critical t of every pair of an index; inf for a pair without hits."""
    critical = np.full(len(index), np.inf)
    for name in index.hits_by_language():
        mine, matches = index.rows_by_language[name], index.in_language(name)
        critical[mine] = critical_t(matches, counts[name], index.coin_keys[mine], seed, round)
    return critical


def kept_mask(kind: Kind, cuts: Mapping[str, Cut], scored: Scored) -> npt.NDArray[np.bool_]:
    """Return which pairs an emission keeps; `cuts` are per metadata language."""
    index = scored.index
    if kind == "raw":
        return ~np.isin(index.status, _NEVER_EMITTED)
    matched: npt.NDArray[np.bool_] = index.status == Status.MATCHED
    if kind == "matched":
        return matched
    kept = np.zeros(len(index), np.bool_)
    ranks = index.ranks
    for name, rows in index.rows_by_language.items():
        if name in cuts:
            mine = rows[matched[rows]]
            kept[mine] = cuts[name].keeps(scored.critical[mine], ranks[mine])
    return kept


def totals_of(index: MatchIndex, kept: npt.NDArray[np.bool_]) -> Totals:
    """Return the outcomes of an index's pairs."""
    lost = np.bincount(index.status[~kept], minlength=len(Status)).tolist()
    return Totals(
        rejected=lost[Status.REJECTED],
        filtered=lost[Status.FILTERED],
        duplicate=lost[Status.DUPLICATE],
        unmatched=lost[Status.UNMATCHED],
        not_chosen=lost[Status.NOT_CHOSEN],
        dropped=lost[Status.MATCHED],
        kept=int(kept.sum()),
    )


def resolve_cuts(
    request: EmissionRequest, counts: Counts, tasks: Iterable[Scored]
) -> dict[str, Cut]:
    """Turn the request's target into a cut per metadata language.

    Args:
        request: the emission.
        counts: the snapshot.
        tasks: the scored tasks; read twice, and only for a target size.

    Raises:
        InvalidInputError: the size cannot be had, or is asked for with several languages.
    """
    if request.kind != "balanced":
        return {}
    if request.t is not None:
        return _cuts(thresholds(counts, float(request.t)))
    if request.tail_share is not None:
        return _cuts(thresholds_for(counts, request.tail_share))
    if len(counts) != 1:
        raise InvalidInputError("an exact size needs metadata of one language; use t or tail share")
    assert request.size is not None
    bins = sum((histogram(task.critical) for task in tasks), np.zeros(1 << 16, np.int64))
    ranked = ((task.critical, task.index.ranks) for task in tasks)
    return {name: exact_size_cut(request.size, bins, ranked) for name in counts}


def _cuts(by_language: Mapping[str, float]) -> dict[str, Cut]:
    return {name: Cut(t) for name, t in by_language.items()}


@dataclass(frozen=True)
class EmissionPlan:
    """All that workers need to write an emission's parts, and most of its manifest.

    Attributes:
        emission_id, identity: what determines the bytes.
        cuts: per metadata language.
        totals: the seven outcomes.
        expected, deviation: Σq and √Σq(1-q) at the cut; of the number of kept pairs.
        kept_records: kept pool rows per match task, in task order.
        part_records: kept pool rows per part.
        extras: hexadecimal Arrow schema of the pool's other columns.
    """

    emission_id: str
    identity: dict[str, Any]
    request: EmissionRequest
    cuts: dict[str, Cut]
    totals: Totals
    expected: float
    deviation: float
    kept_records: list[int]
    part_records: int
    extras: str
    unknown_rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def num_parts(self) -> int:
        """Number of parts."""
        return -(-sum(self.kept_records) // self.part_records)

    def part_range(self, part: int) -> tuple[int, int]:
        """Return the first and last + 1 kept record of a part."""
        first = part * self.part_records
        return first, min(first + self.part_records, sum(self.kept_records))

    def tasks_of(self, part: int) -> Iterator[tuple[int, int, int]]:
        """Yield (task, first, last + 1) kept records of each task that the part needs."""
        first, last = self.part_range(part)
        start = 0
        for task, records in enumerate(self.kept_records):
            low, high = max(first - start, 0), min(last - start, records)
            if low < high:
                yield task, low, high
            start += records

    def to_bytes(self) -> bytes:
        """Return the plan as JSON."""
        return canonical_json(
            asdict(self) | {"cuts": {name: cut.to_json() for name, cut in self.cuts.items()}}
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> "EmissionPlan":
        """Read what `to_bytes` wrote."""
        value = json.loads(content)
        value["request"] = EmissionRequest(**value["request"])
        value["cuts"] = {name: Cut.from_json(cut) for name, cut in value["cuts"].items()}
        value["totals"] = Totals(**value["totals"])
        return cls(**value)


@dataclass
class _Sums:
    totals: Totals = field(default_factory=Totals)
    expected: int = 0
    variance: int = 0
    records: list[int] = field(default_factory=list)
    nbytes: int = 0
    extras: pa.Schema = field(default_factory=lambda: pa.schema([]))


def summarize(
    request: EmissionRequest, counts: Counts, cuts: Mapping[str, Cut], tasks: Iterable[Scored]
) -> _Sums:
    """Go through the scored tasks once and add up what the plan needs."""
    sums = _Sums()
    for task in tasks:
        kept = kept_mask(request.kind, cuts, task)
        first = first_kept(task.index, kept)
        sums.totals += totals_of(task.index, kept)
        sums.records.append(int(first.sum()))
        sums.nbytes += int(task.index.row_bytes[first].sum())
        sums.extras = unify_extras([sums.extras, task.index.extras])
        for name in cuts:
            q = keep_probability(task.index.in_language(name), counts[name], cuts[name].t)
            sums.expected += _fixed_point(q)
            sums.variance += _fixed_point(q * (1 - q))
    if not cuts:
        sums.expected = sums.totals.kept * _UNIT
    return sums


def _fixed_point(values: npt.NDArray[np.float64]) -> int:
    """Add up in units of 1/_UNIT, exactly, so that the sum is the same however tasks were cut."""
    return int((values * _UNIT).astype(np.int64).sum())


def first_kept(index: MatchIndex, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return a mask that is true at the first kept pair of every pool row that has one."""
    positions = np.flatnonzero(kept)
    rows, shards = index.row[positions], index.shard[positions]
    first = np.ones(len(positions), np.bool_)
    first[1:] = (rows[1:] != rows[:-1]) | (shards[1:] != shards[:-1])
    mask = np.zeros(len(index), np.bool_)
    mask[positions[first]] = True
    return mask


def part_records(records: int, nbytes: int, part_bytes: int) -> int:
    """Return how many pool rows make a part of about `part_bytes`; at least 1."""
    return max(1, records * part_bytes // max(nbytes, 1)) if records else 1


def make_plan(
    request: EmissionRequest,
    run: Mapping[str, Any],
    snapshot: str,
    counts: Counts,
    tasks: Iterable[Scored],
    unknown_rows: list[dict[str, Any]],
) -> EmissionPlan:
    """Fix the cut and the parts of an emission.

    Args:
        request: the emission.
        run: the run's id, rule and metadata fingerprints.
        snapshot: id of the run's frozen counts.
        counts: the frozen counts.
        tasks: all scored tasks in order; may load lazily, is iterated up to three times.
        unknown_rows: inputs that could not be read.
    """
    cuts = resolve_cuts(request, counts, tasks)
    sums = summarize(request, counts, cuts, tasks)
    return EmissionPlan(
        emission_id=hash_json(request.identity(run, snapshot)),
        identity=request.identity(run, snapshot),
        request=request,
        cuts=cuts,
        totals=sums.totals,
        expected=sums.expected / _UNIT,
        deviation=float(np.sqrt(sums.variance / _UNIT)),
        kept_records=sums.records,
        part_records=part_records(sum(sums.records), sums.nbytes, request.part_bytes),
        extras=extras_to_hex(sums.extras),
        unknown_rows=unknown_rows,
    )
