"""Images whose texts lie in several rows of the pool: what each task leaves of them. Pure.

Semantics needs a minimum over all matched texts of an image: of their draws (metaclip2), or of
their critical t (record). Minima can be taken in two steps. Here a task's own texts are settled
among themselves, and one *entry* per image is left; `settling` takes the entries of some images
from all tasks and finds which of them another task's texts overrule. In an entry, an image has a
*head*: the text that was chosen in the task, or the first one of those that share a critical t.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from clipcurate.balancing import Cut, Groups, Semantics, choice_draws, size_law
from clipcurate.balancing.semantics import SizeLaw
from clipcurate.datasets.match_index import MatchIndex, Status
from clipcurate.datasets.outcomes import Scored, keep_probabilities, kept_mask
from clipcurate.datasets.pair_ids import Halves
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.snapshot import Counts
from clipcurate.datasets.task_summary import UNIT, TaskSummary

ENTRY = np.dtype(
    [
        ("id", "<u8", (2,)),
        ("value", "<u8"),
        ("head", "<u4"),
        ("texts", "<u4"),
        ("rows", "<u4"),
        ("kept", "<u4"),
        ("nbytes", "<i8"),
        ("law", "<i8"),
    ]
)
"""Of an image in a task. `value` is what is least in the end: a draw, or the bits of a critical t,
which sort as it does. `texts` match; `rows` and `nbytes` are of the pool rows that a dataset has if
it has the head, and `kept` says whether the task by itself would have it. `law` adds up over tasks
to what the law of the image's size follows from, in units of 1/UNIT: Σq, or −Σ ln(1 − q)."""

CERTAIN = 64 * UNIT
"""−ln(1 − q) counts as no more than this: q is 1 to the last bit long before."""

Entries = npt.NDArray[np.void]


@dataclass(frozen=True)
class ImageIds:
    """What the pairs of a task belong to.

    Attributes:
        ids: uint64, shape (n, 2): of each pair's image.
        named: bool, shape (n,): whether it has an id; else its row is an image by itself.
    """

    ids: Halves
    named: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class TaskImages:
    """The matched texts of a task, image by image; `settled` among themselves.

    Attributes:
        order: int64, shape (m,): positions in the task of the matched texts, by image, then place.
        images: which of these belong together.
        heads: int64, per image: position in the task of its head.
        values: uint64, per image: draw of the head, or bits of the least critical t.
        ids: uint64, shape (images, 2).
        named: bool, per image: whether it has an id; only then other tasks may have texts of it.
        settled: the task with the critical t that its own texts come to.
    """

    order: npt.NDArray[np.int64]
    images: Groups
    heads: npt.NDArray[np.int64]
    values: npt.NDArray[np.uint64]
    ids: Halves
    named: npt.NDArray[np.bool_]
    settled: Scored

    @cached_property
    def head_of(self) -> npt.NDArray[np.int64]:
        """The head of each text's image, shape (m,), in the order of the matched texts."""
        heads: npt.NDArray[np.int64] = np.repeat(self.heads, self.images.lengths)
        return heads[np.argsort(self.order)]


def gather(own: Scored, image_ids: ImageIds, request: EmissionRequest) -> TaskImages:
    """Settle the texts of a task among themselves.

    Args:
        own: the task, with the critical t by each text's own coin.
        image_ids: of its pairs.
        request: says how.
    """
    index, critical = own.index, own.critical.copy()
    order, images = _by_image(index, image_ids)
    if request.semantics == "record":
        heads = order[images.starts]
        values = critical[order].view(np.uint64)
        critical[order] = images.least(critical[order])
    else:
        values = _draws(index, order, request)
        chosen = images.winners(values)
        heads = order[chosen]
        critical[order[~chosen]] = np.inf
    return TaskImages(
        order=order,
        images=images,
        heads=heads,
        values=np.minimum.reduceat(values, images.starts),
        ids=image_ids.ids[heads],
        named=image_ids.named[heads],
        settled=Scored(index, critical),
    )


def _by_image(index: MatchIndex, image_ids: ImageIds) -> tuple[npt.NDArray[np.int64], Groups]:
    """Return the positions of the matched texts by image, then place; and the images."""
    matched = np.flatnonzero(index.status == Status.MATCHED)
    named = image_ids.named[matched]
    rows = np.stack([index.shard, index.row], 1)[matched].astype(np.uint64)
    ids = np.where(named[:, None], image_ids.ids[matched], rows)
    order = np.lexsort((ids[:, 1], ids[:, 0], named))
    return matched[order], Groups.of(named[order], ids[order, 0], ids[order, 1])


def _draws(
    index: MatchIndex, places: npt.NDArray[np.int64], request: EmissionRequest
) -> npt.NDArray[np.uint64]:
    """Return draws that differ by place, so that each repeat of a text has its own."""
    return choice_draws(
        index.coin_keys[places],
        index.text_index[places],
        request.seed,
        request.round,
        places=(index.shard[places], index.row[places]),
    )


def sum_up(
    task: TaskImages, request: EmissionRequest, counts: Counts, cuts: Mapping[str, Cut]
) -> tuple[Entries, TaskSummary]:
    """Return what a task leaves for `settle`, and what the cuts keep of it by its own choice.

    Of the law of the size, the summary has the part of images without id only.
    """
    q = keep_probabilities(task.settled.index, counts, cuts)[task.order]
    law = size_law(request.semantics, q, task.images)
    alone = SizeLaw(law.mean[~task.named], law.variance[~task.named])
    summary = TaskSummary.of(request, counts, cuts, task.settled, alone)
    entries = np.zeros(len(task.heads), ENTRY)
    entries["id"], entries["value"], entries["head"] = task.ids, task.values, task.heads
    entries["texts"] = task.images.lengths
    entries["rows"], entries["nbytes"] = _pool_rows(task, request.semantics)
    entries["kept"] = kept_mask(request.kind, cuts, task.settled)[task.heads]
    if cuts:
        entries["law"] = _law_units(request.semantics, q, task.images)
    return entries[task.named], summary


def _pool_rows(
    task: TaskImages, semantics: Semantics
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return how many pool rows a dataset has per image that it has, and their bytes."""
    index = task.settled.index
    if semantics != "record":
        return np.ones(len(task.heads), np.int64), index.row_bytes[task.heads]
    begins = np.zeros(task.images.items, np.int64)
    begins[task.images.starts] = 1
    shards, rows = index.shard[task.order], index.row[task.order]
    begins[1:] |= (shards[1:] != shards[:-1]) | (rows[1:] != rows[:-1])
    sums = (begins, begins * index.row_bytes[task.order])
    rows_of, bytes_of = (np.add.reduceat(one, task.images.starts) for one in sums)
    return rows_of, bytes_of


def _law_units(
    semantics: Semantics, q: npt.NDArray[np.float64], images: Groups
) -> npt.NDArray[np.int64]:
    """Return what adds up over an image's texts, as whole numbers: sums need no order."""
    if semantics == "record":
        with np.errstate(divide="ignore"):
            q = np.minimum(-np.log1p(-q), CERTAIN / UNIT)
    sums = np.add.reduceat((q * UNIT).astype(np.int64), images.starts)
    return np.minimum(sums, CERTAIN) if semantics == "record" else sums
