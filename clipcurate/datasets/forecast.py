"""What an emission would hold, told from a frozen run's match indexes, before anything is made."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from clipcurate.balancing import Cut
from clipcurate.balancing.semantics import SizeLaw
from clipcurate.balancing.sizes import SizeEstimate, estimate
from clipcurate.datasets.cuts import resolve_cuts
from clipcurate.datasets.outcomes import Scored, kept_mask, law_of_size
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.snapshot import Counts


@dataclass(frozen=True)
class Forecast:
    """A balanced emission, foretold.

    Attributes:
        cuts: per metadata language.
        languages: what the cut does, per metadata language.
        sizes: kept pairs with the request's seed and round, per metadata language.
        expected, deviation: mean and standard deviation over seeds of all kept pairs.
    """

    cuts: dict[str, Cut]
    languages: dict[str, SizeEstimate]
    sizes: dict[str, int]
    expected: float
    deviation: float

    @property
    def size(self) -> int:
        """All kept pairs."""
        return sum(self.sizes.values())


def forecast(
    request: EmissionRequest, counts: Counts, tasks: Iterable[Scored], law: SizeLaw | None = None
) -> Forecast:
    """Foretell a balanced emission.

    Args:
        request: the emission.
        counts: the snapshot.
        tasks: the scored tasks; read once, and twice more for a target size.
        law: of all kept pairs, where it is more than semantics gives row by row; goes with metadata
            of one language.

    Raises:
        InvalidInputError: the target cannot be had.
    """
    cuts = resolve_cuts(request, counts, tasks)
    known = [law] if law else []
    laws = {name: [*known] for name in cuts}
    sizes, whole = dict.fromkeys(cuts, 0), [*known]
    for task in tasks:
        kept = kept_mask("balanced", cuts, task)
        for name in sorted(task.index.rows_by_language.keys() & cuts.keys()):
            sizes[name] += int(kept[task.index.rows_by_language[name]].sum())
            if not known:
                one = {name: cuts[name]}
                laws[name].append(_sum(law_of_size(task.index, counts, one, request.semantics)))
        if not known:
            whole.append(_sum(law_of_size(task.index, counts, cuts, request.semantics)))
    return Forecast(
        cuts=cuts,
        languages={name: estimate(counts[name], laws[name], cut.t) for name, cut in cuts.items()},
        sizes=sizes,
        expected=float(sum(law.mean.sum() for law in whole)),
        deviation=float(np.sqrt(sum(law.variance.sum() for law in whole))),
    )


def _sum(law: SizeLaw) -> SizeLaw:
    """Return the law of a whole task; what is independent adds up."""
    return SizeLaw(law.mean.sum(keepdims=True), law.variance.sum(keepdims=True))
