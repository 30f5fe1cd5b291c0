"""How many pairs of a dataset a subset may keep, over seeds, given the dataset."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from clipcurate.balancing import Groups, size_law

Floats = npt.NDArray[np.float64]


@dataclass
class SubsetLaw:
    """Adds up part by part: what is kept at the dataset's own t stays with q(t) / q(own t).

    Texts have a coin each, also those that metaclip2 has chosen; records share their critical t.

    Attributes:
        is_record: whether texts that share their critical t stay together.
        scattered: whether they may lie in any parts; then the figures of all parts are held, 24
            bytes a pair.
        expected, variance: of the subset's size, once `finish` was called.
    """

    is_record: bool
    scattered: bool
    expected: float = 0.0
    variance: float = 0.0
    _held: list[tuple[Floats, ...]] = field(default_factory=list)

    @classmethod
    def of(cls, identity: Mapping[str, Any]) -> "SubsetLaw":
        """Begin for a dataset of this identity."""
        is_record = identity["semantics"] == "record"
        return cls(is_record, is_record and "group" in identity)

    def add(self, now: Floats, before: Floats, critical: Floats) -> None:
        """Take in a part.

        Args:
            now: keep probability of each pair at the subset's t, shape (n,).
            before: at the dataset's own t; 1 where it has none.
            critical: critical t, in the dataset's order.
        """
        if self.scattered:
            self._held.append((now, before, critical))
        else:
            self._add(now, before, critical)

    def finish(self) -> None:
        """Do for all parts together what had to wait for the last one."""
        if self._held:
            now, before, critical = (np.concatenate(one) for one in zip(*self._held, strict=True))
            order = np.argsort(critical, kind="stable")
            self._add(now[order], before[order], critical[order])

    def _add(self, now: Floats, before: Floats, critical: Floats) -> None:
        records = Groups.of(critical)
        laws = (size_law("record" if self.is_record else "pair", q, records) for q in (now, before))
        stays = np.divide(*(law.mean for law in laws))
        texts = records.lengths if self.is_record else np.ones(1)
        self.expected += float((texts * stays).sum())
        self.variance += float((texts**2 * stays * (1 - stays)).sum())
