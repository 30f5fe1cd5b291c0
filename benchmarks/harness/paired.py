"""Figures over seeds that are the same for all arms of a comparison."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

T_975 = {1: 12.706204736, 2: 4.302652730, 3: 3.182446305, 4: 2.776445105}
"""Student's t: two-sided 95% by degrees of freedom."""

Figures = Mapping[str, float]
"""One training's figures by group of classes."""


def summary(seeds: Sequence[Figures]) -> dict[str, Any]:
    """Return mean and half-width of the 95% interval over seeds of each figure."""
    return {name: _spread([figures[name] for figures in seeds]) for name in seeds[0]}


def differences(one: Sequence[Figures], other: Sequence[Figures]) -> dict[str, Any]:
    """Return the same of the differences between two arms, seed by seed."""
    return summary([{n: a[n] - b[n] for n in a} for a, b in zip(one, other, strict=True)])


def _spread(values: Sequence[float]) -> dict[str, Any]:
    half = T_975[len(values) - 1] * statistics.stdev(values) / math.sqrt(len(values))
    return {"mean": statistics.mean(values), "half_width": half, "by_seed": list(values)}
