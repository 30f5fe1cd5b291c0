"""Settling images across rows over storage, in steps that each hold a bounded share of them.

Of each task, a file of entries by partition; of each partition, a file of changes by task. Both are
files of sections, which are read one by one.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from clipcurate import storage
from clipcurate.balancing import Cut
from clipcurate.balancing.coins import coins
from clipcurate.balancing.semantics import SizeLaw
from clipcurate.datasets.grouping import ENTRY, Entries, ImageIds, TaskImages, gather, sum_up
from clipcurate.datasets.match_index import MatchIndex
from clipcurate.datasets.outcomes import Scored, score
from clipcurate.datasets.pair_ids import image_ids
from clipcurate.datasets.request import EmissionRequest, ImageName, image_partitions
from clipcurate.datasets.run_plan import RunPlan
from clipcurate.datasets.sections import pack, read_of_each, read_section
from clipcurate.datasets.settling import CHANGE, Sums, overruled, settle
from clipcurate.datasets.snapshot import Counts
from clipcurate.datasets.task_summary import UNIT
from clipcurate.errors import InputChangedError
from clipcurate.pools import Slice, read_slice
from clipcurate.storage import StoredObject

Progress = Callable[[int], None]


def read_image_ids(
    plan: RunPlan,
    pieces: Sequence[Slice],
    by: ImageName,
    index: MatchIndex,
    progress: Progress = lambda _: None,
) -> ImageIds:
    """Read from the pool which image each pair belongs to.

    Args:
        plan: the run's plan.
        pieces: the slices that the index is of, in order.
        by: what names an image.
        index: of their pairs.
        progress: told the pairs of each batch.

    Raises:
        InputChangedError: the pool does not hold what was matched.
        PoolError and its kind: as `read_slice`.
    """
    ids, named = np.zeros((len(index), 2), np.uint64), np.zeros(len(index), np.bool_)
    first = 0
    for piece in pieces:
        shard = plan.shards[piece.shard]
        for pairs in read_slice(shard, piece, plan.columns):
            here = slice(first, first + pairs.num_rows)
            if not np.array_equal(pairs["row"].to_numpy(), index.row[here]):
                raise InputChangedError(
                    f"{shard.url}: other rows than were matched; start a new run"
                )
            ids[here], named[here] = image_ids(pairs, by)
            first = here.stop
            progress(pairs.num_rows)
    if first != len(index):
        url = plan.shards[pieces[-1].shard].url
        raise InputChangedError(f"{url}: fewer rows than were matched; start a new run")
    return ImageIds(ids, named)


def publish_gathered(
    task: TaskImages, entries: Entries, partitions: int, folder: str, number: int
) -> StoredObject:
    """Store what a task's texts come to among themselves.

    Sections: its entries by partition; the head of each matched text; critical t of each pair.

    Args:
        task: its images.
        entries: of `sum_up`.
        partitions: number of partitions.
        folder: where to store.
        number: of the task.
    """
    place = (coins(entries["id"], seed=0) * partitions).astype(np.uint32)
    order = np.argsort(place, kind="stable")
    edges = np.searchsorted(place[order], np.arange(partitions + 1))
    parts = [entries[order[edges[i] : edges[i + 1]]].tobytes() for i in range(partitions)]
    heads = task.head_of.astype("<u4").tobytes()
    content = pack([*parts, heads, task.settled.critical.astype("<f8").tobytes()])
    return storage.publish_bytes(content, folder, f"{number:06d}", ".images")


def publish_settled(
    gathered: Sequence[str | None],
    partition: int,
    request: EmissionRequest,
    folder: str,
    progress: Callable[[], None] = lambda: None,
) -> StoredObject:
    """Settle the images of one partition and store what that changes, by task, and the sums.

    Args:
        gathered: URL of each task's stored images in order; None where the task is quarantined.
        partition: its number.
        request: the emission.
        folder: where to store.
        progress: called from time to time.
    """
    sections = []
    for content in read_of_each(gathered, partition):
        sections.append(np.frombuffer(content, ENTRY))
        progress()
    changes, sums = settle(sections, request)
    content = pack([*(one.tobytes() for one in changes), sums.to_bytes()])
    return storage.publish_bytes(content, folder, f"{partition:06d}", ".changes")


@dataclass(frozen=True)
class SettledFiles:
    """An emission's images as they are settled.

    Attributes:
        gathered: URL of each task's stored images in order; None where the task is quarantined.
        settled: URL of each partition's stored changes in order.
    """

    gathered: Sequence[str | None]
    settled: Sequence[str]

    def load(self, task: int, index: MatchIndex) -> Scored:
        """Return a task with the critical t of its pairs."""
        url, partitions = self.gathered[task], len(self.settled)
        if url is None:
            return Scored(index, np.zeros(0))
        heads = np.frombuffer(read_section(url, partitions), "<u4").astype(np.int64)
        own = Scored(index, np.frombuffer(read_section(url, partitions + 1), "<f8"))
        changes = np.frombuffer(b"".join(read_of_each(self.settled, task)), CHANGE)
        return overruled(own, heads, changes)

    def sums(self) -> Sums:
        """Return what all partitions change in the tasks' summaries."""
        found = map(Sums.from_bytes, read_of_each(self.settled, len(self.gathered)))
        return sum(found, Sums.none(len(self.gathered)))


Pieces = Callable[[], Iterable[tuple[Sequence[Slice], MatchIndex]]]
"""Goes through consecutive pieces of the pool with their match indexes; may be called again."""


Load = Callable[[int, MatchIndex], Scored]
"""Returns a piece, given its number and its match index, with the critical t of its pairs."""


@dataclass(frozen=True)
class ScoredAgain:
    """What scoring gives for pieces of a pool.

    Attributes:
        load: of each piece.
        law: of the number of kept pairs of all pieces, where rows are grouped; else None.
    """

    load: Load
    law: SizeLaw | None = None


@contextmanager
def scored_again(
    plan: RunPlan,
    pieces: Pieces,
    request: EmissionRequest,
    counts: Counts,
    cuts: Mapping[str, Cut],
) -> Iterator[ScoredAgain]:
    """Score a pool again, piece by piece; where rows are grouped, over a temporary folder.

    Args:
        plan: the run's plan.
        pieces: of the pool, however it is cut. Gone through here where rows are grouped.
        request: the emission.
        counts: the snapshot.
        cuts: at which the law is told, per metadata language.
    """
    if request.group is None:
        yield ScoredAgain(lambda _, index: Scored(index, score(index, counts, request)))
        return
    partitions = image_partitions(len(plan.tasks))
    with tempfile.TemporaryDirectory(prefix="clipcurate-images-") as folder:
        gathered: list[str | None] = []
        law = np.zeros(2)
        for slices, index in pieces():
            ids = read_image_ids(plan, slices, request.group, index)
            task = gather(Scored(index, score(index, counts, request)), ids, request)
            entries, summary = sum_up(task, request, counts, cuts)
            stored = publish_gathered(task, entries, partitions, folder, len(gathered))
            gathered.append(storage.join(folder, stored.name))
            law += (summary.expected / UNIT, summary.variance / UNIT)
        files = SettledFiles(gathered, _settled(gathered, partitions, request, folder))
        sums = files.sums()
        law += (sums.expected / UNIT, sums.variance / UNIT)
        yield ScoredAgain(files.load, SizeLaw(law[:1], law[1:]))


def _settled(
    gathered: Sequence[str | None], partitions: int, request: EmissionRequest, folder: str
) -> list[str]:
    stored = (publish_settled(gathered, n, request, folder) for n in range(partitions))
    return [storage.join(folder, one.name) for one in stored]
