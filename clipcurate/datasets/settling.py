"""Images whose texts lie in several tasks: which task's texts hold. Pure.

Of the entries that tasks left of an image (`grouping`), the one with the least value holds, and of
equal ones that of the first task: with it comes first in (shard, row, text) order.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from clipcurate.balancing import Groups, Semantics
from clipcurate.datasets.grouping import CERTAIN, ENTRY, Entries
from clipcurate.datasets.match_index import Status
from clipcurate.datasets.outcomes import Scored, Totals
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.task_summary import UNIT, TaskSummary, fixed_point
from clipcurate.hashing import canonical_json

CHANGE = np.dtype([("head", "<u4"), ("critical", "<f8")])
"""A head whose image's texts have another critical t than their task knew."""

DELTAS = 5
"""Of kept, dropped and not chosen pairs, of kept pool rows and of their bytes."""

Changes = npt.NDArray[np.void]


@dataclass(frozen=True)
class Sums:
    """What the other tasks' texts change in the summaries of tasks. Sums of partitions add up.

    Attributes:
        deltas: int64, shape (tasks, 5): what is to be added of DELTAS.
        expected, variance: of the size of images with an id, as in a TaskSummary.
    """

    deltas: npt.NDArray[np.int64]
    expected: int = 0
    variance: int = 0

    @classmethod
    def none(cls, tasks: int) -> "Sums":
        """Return that nothing changes in so many tasks."""
        return cls(np.zeros((tasks, DELTAS), np.int64))

    def __add__(self, other: "Sums") -> "Sums":
        """Add the sums of another partition."""
        return Sums(
            self.deltas + other.deltas,
            self.expected + other.expected,
            self.variance + other.variance,
        )

    def of(self, task: int, summary: TaskSummary) -> TaskSummary:
        """Correct a task's summary. What belongs to no task goes to the first one."""
        kept, dropped, not_chosen, records, nbytes = self.deltas[task].tolist()
        changed = Totals(kept=kept, dropped=dropped, not_chosen=not_chosen)
        return replace(
            summary,
            totals=summary.totals + changed,
            records=summary.records + records,
            nbytes=summary.nbytes + nbytes,
            expected=summary.expected + (0 if task else self.expected),
            variance=summary.variance + (0 if task else self.variance),
        )

    def to_bytes(self) -> bytes:
        """Return the sums as JSON, with the tasks that change."""
        changed = np.flatnonzero(self.deltas.any(1))
        value = {
            "tasks": len(self.deltas),
            "deltas": [[int(task), *self.deltas[task].tolist()] for task in changed],
            "expected": self.expected,
            "variance": self.variance,
        }
        return canonical_json(value)

    @classmethod
    def from_bytes(cls, content: bytes) -> "Sums":
        """Read what `to_bytes` wrote."""
        value = json.loads(content)
        sums = cls.none(value["tasks"])
        for task, *changes in value["deltas"]:
            sums.deltas[task] = changes
        return replace(sums, expected=value["expected"], variance=value["variance"])


def settle(sections: Sequence[Entries], request: EmissionRequest) -> tuple[list[Changes], Sums]:
    """Settle a share of the images across tasks.

    Args:
        sections: their entries, per task in order; empty where a task is quarantined.
        request: says how.

    Returns:
        The changes of each task, and of the summaries.
    """
    tasks = np.repeat(np.arange(len(sections)), [len(section) for section in sections])
    entries = np.concatenate([np.zeros(0, ENTRY), *sections])
    order = np.lexsort((entries["id"][:, 1], entries["id"][:, 0]))
    entries, tasks = entries[order], tasks[order]
    images = Groups.of(entries["id"][:, 0], entries["id"][:, 1])
    if request.semantics == "record":
        least = images.least(entries["value"])
        changed, critical = entries["value"] != least, least.view(np.float64)
    else:
        changed = ~images.winners(entries["value"])
        critical = np.full(len(entries), np.inf)
    changes = np.zeros(len(entries), CHANGE)
    changes["head"], changes["critical"] = entries["head"], critical
    deltas = np.zeros((len(sections), DELTAS), np.int64)
    np.add.at(deltas, tasks, _deltas(entries, images, changed, request.semantics))
    sums = Sums(deltas, *_law(entries, images, request, int(deltas[:, 0].sum())))
    return _by_task(changes[changed], tasks[changed], len(sections)), sums


def _by_task(changes: Changes, tasks: npt.NDArray[np.int64], number: int) -> list[Changes]:
    order = np.lexsort((changes["head"], tasks))
    return np.split(changes[order], np.searchsorted(tasks[order], np.arange(1, number)))


def _deltas(
    entries: Entries, images: Groups, changed: npt.NDArray[np.bool_], semantics: Semantics
) -> npt.NDArray[np.int64]:
    """Return what each entry changes in its task's summary: a row of DELTAS each."""
    kept, out = entries["kept"].astype(np.int64), np.zeros((len(entries), DELTAS), np.int64)
    if semantics == "record":
        now = np.repeat(np.maximum.reduceat(kept, images.starts), images.lengths)
        out[:, 0] = (now - kept) * entries["texts"]
        out[:, 1] = -out[:, 0]
    else:
        now, lost = np.where(changed, 0, kept), changed.astype(np.int64)
        out[:, 0] = now - kept
        out[:, 1] = -lost * (1 - kept)
        out[:, 2] = lost
    out[:, 3] = (now - kept) * entries["rows"]
    out[:, 4] = (now - kept) * entries["nbytes"]
    return out


def _law(entries: Entries, images: Groups, request: EmissionRequest, kept: int) -> tuple[int, int]:
    """Return mean and variance of the images' size; where no coin decides, of what is kept more."""
    if request.kind != "balanced":
        return kept * UNIT, 0
    texts = np.add.reduceat(entries["texts"].astype(np.int64), images.starts)
    sums = np.add.reduceat(entries["law"], images.starts)
    if request.semantics == "record":
        q, size = -np.expm1(-np.minimum(sums, CERTAIN) / UNIT), texts.astype(np.float64)
    else:
        q, size = sums / (texts * UNIT), np.ones(len(texts))
    return fixed_point(size * q), fixed_point(size**2 * q * (1 - q))


def overruled(task: Scored, head_of: npt.NDArray[np.int64], changes: Changes) -> Scored:
    """Return a task as all tasks' texts have it.

    Args:
        task: as its own texts have it.
        head_of: the head of each matched text's image, in their order.
        changes: of this task, from all partitions, in any order.
    """
    if not len(changes):
        return task
    changes = changes[np.argsort(changes["head"])]
    places = np.minimum(np.searchsorted(changes["head"], head_of), len(changes) - 1)
    touched = changes["head"][places] == head_of
    critical = task.critical.copy()
    matched = np.flatnonzero(task.index.status == Status.MATCHED)
    critical[matched[touched]] = changes["critical"][places[touched]]
    return Scored(task.index, critical)
