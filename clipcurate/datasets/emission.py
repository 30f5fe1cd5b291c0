"""The plan of an emission: its cut, its totals, and the ranges of its parts."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from clipcurate.balancing import Cut
from clipcurate.datasets.extras import unify_extras
from clipcurate.datasets.match_index import extras_from_hex, extras_to_hex
from clipcurate.datasets.outcomes import Totals
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.task_summary import UNIT, TaskSummary
from clipcurate.hashing import canonical_json, hash_json


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
    projection: Mapping[str, Any] | None = None,
    *,
    frozen_early: bool = False,
) -> EmissionPlan:
    """Fix the parts of an emission.

    Args:
        request: the emission.
        run: the run's id, rule and metadata fingerprints.
        snapshot: id of the run's frozen counts.
        cuts: what `resolve_cuts` gave.
        tasks: summaries of all scored tasks under these cuts, in order; read once.
        unknown_rows: inputs that could not be read.
        projection: what the counts were projected from; None if they are the run's own.
        frozen_early: whether they were frozen before it was known what cannot be read.
    """
    quarantined = [unknown["inputs"] for unknown in unknown_rows] if frozen_early else None
    identity = request.identity(run, snapshot, projection, quarantined)
    summaries = list(tasks)
    records = [task.records for task in summaries]
    nbytes = sum(task.nbytes for task in summaries)
    request = request.for_languages(cuts)
    extras = {task.extras: extras_from_hex(task.extras) for task in summaries}
    return EmissionPlan(
        emission_id=hash_json(identity),
        identity=identity,
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
