"""Finding a run's duplicates over storage, in steps that each hold a bounded share of the ids.

Keys: the ids of one task, by partition. Drops: of one partition, what repeats an earlier task. And
the duplicates of one task, which both kinds of file name.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from clipcurate import storage
from clipcurate.datasets.dedup import Dedup, Duplicates, Keys, UnitNumbers, find_repeats, part
from clipcurate.datasets.run_plan import RunPlan
from clipcurate.datasets.sections import pack, read_of_each, read_section
from clipcurate.pools import read_slice
from clipcurate.storage import StoredObject

Progress = Callable[[int], None]


def publish_keys(
    plan: RunPlan, dedup: Dedup, task: int, folder: str, progress: Progress
) -> StoredObject:
    """Read a task's ids and store them; `progress` is told the pairs of each batch.

    Raises:
        PoolError and its kind: as `read_slice`.
    """
    numbers, keys = UnitNumbers(dedup.by), []
    for piece in plan.tasks[task].slices:
        for pairs in read_slice(plan.shards[piece.shard], piece, plan.columns):
            keys.append(Keys.of(dedup.by, pairs, numbers.of(piece.shard, pairs)))
            progress(pairs.num_rows)
    sections = part(Keys.concatenate(keys), dedup.partitions)
    return storage.publish_bytes(pack(sections), folder, f"{task:06d}", ".keys")


def publish_drops(
    keys: Sequence[str | None], partition: int, folder: str, progress: Progress
) -> StoredObject:
    """Find the duplicates of one partition across tasks and store them.

    Args:
        keys: URL of each task's stored keys in order; None where the task is quarantined.
        partition: its number.
        folder: where to store.
        progress: told the bytes of each section.
    """
    sections = find_repeats(_watched(read_of_each(keys, partition), progress))
    return storage.publish_bytes(pack(sections), folder, f"{partition:06d}", ".drops")


def read_duplicates(dedup: Dedup, task: int, keys: str, drops: Sequence[str]) -> Duplicates:
    """Return the duplicates of a task.

    Args:
        dedup: how they were found.
        task: its number.
        keys: URL of its stored keys.
        drops: URL of each partition's stored drops, in order.
    """
    found = read_of_each(drops, task)
    return Duplicates.from_bytes(dedup.by, [read_section(keys, dedup.partitions), *found])


@contextmanager
def duplicates_again(
    plan: RunPlan, tasks: Iterable[int], say: Callable[[str], None]
) -> Iterator[Callable[[int], Duplicates | None]]:
    """Find a pool's duplicates in a temporary folder.

    Args:
        plan: the run's plan.
        tasks: those that can be read.
        say: told what is being done.

    Returns:
        What gives the duplicates of a task; None where the run keeps them.
    """
    dedup = plan.dedup
    if dedup is None:
        yield lambda _: None
        return
    with tempfile.TemporaryDirectory(prefix="clipcurate-ids-") as folder:
        keys: list[str | None] = [None] * len(plan.tasks)
        for task in tasks:
            say(f"reading the ids of task {task} again")
            stored = publish_keys(plan, dedup, task, folder, lambda _: None)
            keys[task] = storage.join(folder, stored.name)
        drops = []
        for partition in range(dedup.partitions):
            say(f"finding the duplicates of partition {partition} again")
            stored = publish_drops(keys, partition, folder, lambda _: None)
            drops.append(storage.join(folder, stored.name))
        yield lambda task: read_duplicates(dedup, task, keys[task] or "", drops)


def _watched(sections: Iterator[bytes], progress: Progress) -> Iterator[bytes]:
    for content in sections:
        progress(len(content))
        yield content
