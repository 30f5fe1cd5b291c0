"""What fixing an emission needs to know of one scored task, once the cut is known."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from clipcurate.balancing import Cut
from clipcurate.balancing.semantics import SizeLaw
from clipcurate.datasets.match_index import extras_to_hex
from clipcurate.datasets.outcomes import (
    Scored,
    Totals,
    first_kept,
    kept_mask,
    law_of_size,
    totals_of,
)
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.snapshot import Counts
from clipcurate.hashing import canonical_json

UNIT = 1 << 30
"""Means and variances are added up in units of 1/UNIT, exactly: sums do not depend on the tasks."""


@dataclass(frozen=True)
class TaskSummary:
    """Of one task under a cut.

    Attributes:
        totals: the seven outcomes.
        records: kept pool rows.
        nbytes: bytes of these rows.
        expected, variance: of the number of kept pairs over seeds, in units of 1/UNIT.
        extras: hexadecimal Arrow schema of the pool's other columns.
    """

    totals: Totals
    records: int
    nbytes: int
    expected: int
    variance: int
    extras: str

    @classmethod
    def of(
        cls,
        request: EmissionRequest,
        counts: Counts,
        cuts: Mapping[str, Cut],
        task: Scored,
        law: SizeLaw | None = None,
    ) -> "TaskSummary":
        """Sum a task up.

        Args:
            request: the emission.
            counts: the snapshot.
            cuts: per metadata language; empty where everything is kept.
            task: what to sum up.
            law: of the number of kept pairs; None for what semantics gives row by row.
        """
        kept = kept_mask(request.kind, cuts, task)
        first = first_kept(task.index, kept)
        totals = totals_of(task, kept)
        law = law or law_of_size(task.index, counts, cuts, request.semantics)
        return cls(
            totals=totals,
            records=int(first.sum()),
            nbytes=int(task.index.row_bytes[first].sum()),
            expected=fixed_point(law.mean) if cuts else totals.kept * UNIT,
            variance=fixed_point(law.variance),
            extras=extras_to_hex(task.index.extras),
        )

    def to_bytes(self) -> bytes:
        """Return the summary as JSON."""
        return canonical_json(asdict(self))

    @classmethod
    def from_bytes(cls, content: bytes) -> "TaskSummary":
        """Read what `to_bytes` wrote."""
        value = json.loads(content)
        return cls(**value | {"totals": Totals(**value["totals"])})


def fixed_point(values: npt.NDArray[np.float64]) -> int:
    """Return the sum of values in units of 1/UNIT, each rounded down; exact, however large."""
    whole = np.floor(values)
    return int(whole.astype(np.int64).sum()) * UNIT + int(
        ((values - whole) * UNIT).astype(np.int64).sum()
    )
