"""Counts in Redis: packed ranges, one mark per task and range, and the check before freezing."""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from services.counter.store import Store, run_prefix

RANGE = 8192
"""Entries per range: 64 KiB of counts, so that one script call stays below 10 ms."""

Sparse = tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]


class CountStore:
    """The counts of all runs. Sizes maps metadata language to number of entries."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(
        self, run_id: str, task: int, sizes: Mapping[str, int], adds: Mapping[str, Sparse]
    ) -> int:
        """Add a task's counts to every range exactly once; return how many were there before.

        Ranges without adds get the task's mark too, so that a range that comes back older is seen.
        """
        empty = (np.zeros(0, np.uint32), np.zeros(0, np.uint32))
        pipe = self._store.redis.pipeline(transaction=False)
        script = self._store.scripts["count"]
        packed_task = np.array([task], "<u4").tobytes()
        for language, size in sizes.items():
            ids, counts = adds.get(language, empty)
            for first, part_ids, part_counts in _by_range(ids, counts, size):
                packed = np.stack([part_ids - np.uint32(first), part_counts], 1).astype("<u4")
                keys = self._keys(run_id, language, first)
                length = min(RANGE, size - first) * 8
                script(keys=keys, args=[length, packed_task, packed.tobytes()], client=pipe)
        return sum(1 for repeated in pipe.execute() if repeated)

    def read(self, run_id: str, language: str, size: int) -> npt.NDArray[np.int64]:
        """Return the counts of one language, shape (size,); ranges that do not exist are 0."""
        counts = np.zeros(size, np.int64)
        for first, value in self._values(run_id, language, size, "counts"):
            part = np.frombuffer(value, ">i8")
            counts[first : first + len(part)] = part
        return counts

    def wrong_marks(
        self, run_id: str, language: str, size: int, counted: npt.NDArray[np.int64]
    ) -> int:
        """Return how many (task, range) marks are missing or belong to no counted task."""
        expected = np.zeros(int(counted.max(initial=-1)) + 1, np.uint8)
        expected[counted] = 1
        found = dict(self._values(run_id, language, size, "marks"))
        ranges = range(0, size, RANGE)
        return sum(_difference(expected, found.get(first, b"")) for first in ranges)

    def replace(
        self,
        run_id: str,
        counts: Mapping[str, npt.NDArray[np.int64]],
        counted: npt.NDArray[np.int64],
    ) -> None:
        """Put other counts in place of Redis's, and mark exactly the counted tasks."""
        marks = np.zeros(int(counted.max(initial=-1)) + 1, np.uint8)
        marks[counted] = 1
        packed_marks = np.packbits(marks).tobytes()
        pipe = self._store.redis.pipeline(transaction=True)
        for language, array in counts.items():
            for first in range(0, len(array), RANGE):
                counts_key, marks_key = self._keys(run_id, language, first)
                pipe.set(counts_key, array[first : first + RANGE].astype(">i8").tobytes())
                pipe.set(marks_key, packed_marks)
        pipe.execute()

    def _keys(self, run_id: str, language: str, first: int) -> list[str]:
        prefix, number = run_prefix(run_id), first // RANGE
        return [f"{prefix}counts:{language}:{number}", f"{prefix}marks:{language}:{number}"]

    def _values(
        self, run_id: str, language: str, size: int, kind: str
    ) -> Iterator[tuple[int, bytes]]:
        firsts = list(range(0, size, RANGE))
        keys = [self._keys(run_id, language, first)[kind == "marks"] for first in firsts]
        values: Iterable[bytes | None] = self._store.redis.mget(keys)
        yield from ((f, v) for f, v in zip(firsts, values, strict=True) if v is not None)


def _by_range(
    ids: npt.NDArray[np.uint32], counts: npt.NDArray[np.uint32], size: int
) -> Iterator[tuple[int, npt.NDArray[np.uint32], npt.NDArray[np.uint32]]]:
    firsts = np.arange(0, size + RANGE, RANGE)
    edges = np.searchsorted(ids, firsts)
    for number, first in enumerate(firsts[:-1]):
        if first >= size:
            break
        part = slice(edges[number], edges[number + 1])
        yield int(first), ids[part], counts[part]


def _difference(expected: npt.NDArray[np.uint8], marks: bytes) -> int:
    found = np.unpackbits(np.frombuffer(marks, np.uint8))
    length = max(len(expected), len(found))
    return int(
        (
            np.pad(expected, (0, length - len(expected))) != np.pad(found, (0, length - len(found)))
        ).sum()
    )
