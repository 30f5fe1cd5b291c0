"""Cutting a pool into tasks of about equal size. The plan depends on the shards alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from clipcurate.errors import InvalidInputError
from clipcurate.pools.shards import Shard

TASK_ROWS = 1_000_000
TEXT_ROW_BYTES = 200  # a URL, an alt-text and an id
COMPRESSION_RATIO = 4
IMAGE_ROW_BYTES = 20_000  # a 256-pixel JPEG, as img2dataset writes them


@dataclass(frozen=True)
class Slice:
    """Row groups of one shard, which is named by its position; num_groups 0: the whole shard."""

    shard: int
    first_group: int = 0
    num_groups: int = 0


@dataclass(frozen=True)
class Task:
    """The unit of work: consecutive small shards, or a range of row groups of a large one."""

    slices: tuple[Slice, ...]


def plan_tasks(shards: Sequence[Shard], task_rows: int = TASK_ROWS) -> list[Task]:
    """Cut a pool into tasks of about `task_rows` rows each, in shard order.

    Rows that are not known are estimated from the file's size. A shard that cannot be cut is one
    task however large. A parquet file whose footer is unreadable is a task of its own: its
    quarantine then takes no readable shard with it.

    Raises:
        InvalidInputError: task_rows is not positive.
    """
    if task_rows < 1:
        raise InvalidInputError(f"task_rows is {task_rows}; it must be at least 1")
    return list(_tasks(shards, task_rows))


def estimated_rows(shard: Shard) -> int:
    """Return the number of rows where it is known, else a guess from the file's size."""
    known = shard.known_rows()
    if known is not None:
        return known
    if shard.format == "webdataset":
        return max(1, shard.size // IMAGE_ROW_BYTES)
    ratio = COMPRESSION_RATIO if shard.compression else 1
    return max(1, shard.size * ratio // TEXT_ROW_BYTES)


def planned_rows(shards: Sequence[Shard], task: Task) -> int:
    """Return the rows of a task, as far as they are known; else estimated."""
    return sum(_rows(shards[part.shard], part) for part in task.slices)


def _rows(shard: Shard, part: Slice) -> int:
    if not part.num_groups or shard.groups is None:
        return estimated_rows(shard)
    return sum(shard.groups[part.first_group : part.first_group + part.num_groups])


def _tasks(shards: Sequence[Shard], task_rows: int) -> Iterator[Task]:
    small: list[Slice] = []
    rows = 0
    for position, shard in enumerate(shards):
        more = estimated_rows(shard)
        alone = more > task_rows or (shard.format == "parquet" and shard.groups is None)
        if small and (alone or rows + more > task_rows):
            yield Task(tuple(small))
            small, rows = [], 0
        if alone:
            yield from _ranges(position, shard, task_rows)
        else:
            small.append(Slice(position))
            rows += more
    if small:
        yield Task(tuple(small))


def _ranges(position: int, shard: Shard, task_rows: int) -> Iterator[Task]:
    if shard.groups is None:
        yield Task((Slice(position),))
        return
    first = rows = 0
    for group, more in enumerate(shard.groups):
        if group > first and rows + more > task_rows:
            yield Task((Slice(position, first, group - first),))
            first, rows = group, 0
        rows += more
    yield Task((Slice(position, first, len(shard.groups) - first),))
