"""The plan of an emission: its cut, its totals, and the ranges of its parts."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from clipcurate.balancing import Cut, exact_size_cut, thresholds, thresholds_for
from clipcurate.balancing.cut import histogram
from clipcurate.datasets.extras import unify_extras
from clipcurate.datasets.match_index import extras_from_hex, extras_to_hex
from clipcurate.datasets.outcomes import Scored, Totals
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.snapshot import Counts
from clipcurate.datasets.task_summary import UNIT, TaskSummary
from clipcurate.hashing import canonical_json, hash_json


def resolve_cuts(
    request: EmissionRequest, counts: Counts, tasks: Iterable[Scored]
) -> dict[str, Cut]:
    """Turn the request's target into a cut per metadata language.

    Args:
        request: the emission.
        counts: the snapshot.
        tasks: the scored tasks; read twice, and only for a target size.

    Raises:
        InvalidInputError: the size cannot be had, or the request needs metadata of one language.
    """
    request.require_possible(counts)
    if request.kind != "balanced":
        return {}
    if request.t is not None:
        return _cuts(thresholds(counts, float(request.t), request.tail_rule))
    if request.tail_share is not None:
        return _cuts(thresholds_for(counts, request.tail_share, request.tail_rule))
    assert request.size is not None
    bins = sum((histogram(task.critical) for task in tasks), np.zeros(1 << 16, np.int64))
    ranked = ((task.critical, task.index.ranks) for task in tasks)
    return {name: exact_size_cut(request.size, bins, ranked) for name in counts}


def _cuts(by_language: Mapping[str, float]) -> dict[str, Cut]:
    return {name: Cut(t) for name, t in by_language.items()}


@dataclass(frozen=True, kw_only=True)
class EmissionSummary:
    """What a dataset is, but for its files: most of its manifest.

    Attributes:
        emission_id, identity: what determines the bytes.
        cuts: per metadata language.
        totals: the seven outcomes.
        expected, deviation: of the number of kept pairs over seeds, at the cut.
        unknown_rows: inputs that could not be read.
    """

    emission_id: str
    identity: dict[str, Any]
    request: EmissionRequest
    cuts: dict[str, Cut]
    totals: Totals
    expected: float
    deviation: float
    unknown_rows: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class EmissionPlan(EmissionSummary):
    """All that workers need to write an emission's parts.

    Attributes:
        kept_records: kept pool rows per match task, in task order.
        part_records: kept pool rows per part.
        extras: hexadecimal Arrow schema of the pool's other columns.
    """

    kept_records: list[int]
    part_records: int
    extras: str

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


def part_records(records: int, nbytes: int, part_bytes: int) -> int:
    """Return how many pool rows make a part of about `part_bytes`; at least 1."""
    return max(1, records * part_bytes // max(nbytes, 1)) if records else 1


def make_plan(
    request: EmissionRequest,
    run: Mapping[str, Any],
    snapshot: str,
    cuts: Mapping[str, Cut],
    tasks: Iterable[TaskSummary],
    unknown_rows: list[dict[str, Any]],
) -> EmissionPlan:
    """Fix the parts of an emission.

    Args:
        request: the emission.
        run: the run's id, rule and metadata fingerprints.
        snapshot: id of the run's frozen counts.
        cuts: what `resolve_cuts` gave.
        tasks: summaries of all scored tasks under these cuts, in order; read once.
        unknown_rows: inputs that could not be read.
    """
    summaries = list(tasks)
    records = [task.records for task in summaries]
    nbytes = sum(task.nbytes for task in summaries)
    extras = {task.extras: extras_from_hex(task.extras) for task in summaries}
    return EmissionPlan(
        emission_id=hash_json(request.identity(run, snapshot)),
        identity=request.identity(run, snapshot),
        request=request,
        cuts=dict(cuts),
        totals=sum((task.totals for task in summaries), Totals()),
        expected=sum(task.expected for task in summaries) / UNIT,
        deviation=math.sqrt(sum(task.variance for task in summaries) / UNIT),
        kept_records=records,
        part_records=part_records(sum(records), nbytes, request.part_bytes),
        extras=extras_to_hex(unify_extras(extras.values())),
        unknown_rows=unknown_rows,
    )
