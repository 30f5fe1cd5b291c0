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
    ) -> tuple[int, int]:
        """Return how many (task, range) marks are wrong, and how many of them are early.

        Wrong marks are missing, or of a task that is not counted; those are early.
        """
        expected = _bits(counted)
        marks = dict(self._values(run_id, language, size, "marks"))
        found = [_apart(expected, marks.get(first, b"")) for first in range(0, size, RANGE)]
        early = sum(early for _, early in found)
        return sum(missing for missing, _ in found) + early, early

    def replace(
        self,
        run_id: str,
        counts: Mapping[str, npt.NDArray[np.int64]],
        counted: npt.NDArray[np.int64],
        *,
        settled: bool,
    ) -> int:
        """Put other counts in place of Redis's, with the marks of exactly the counted tasks.

        Range by range, each in one step, so that tasks may be counted meanwhile: a range that was
        added to since its marks were read is left as it is, and unless the run is `settled` (no
        task can be counted any more) also one with marks of tasks that are not counted.

        Returns:
            How many ranges were left as they are.
        """
        return sum(
            self._replace(run_id, language, array, counted, settled)
            for language, array in counts.items()
        )

    def _replace(
        self,
        run_id: str,
        language: str,
        counts: npt.NDArray[np.int64],
        counted: npt.NDArray[np.int64],
        settled: bool,
    ) -> int:
        expected, left = _bits(counted), 0
        packed = np.packbits(expected).tobytes()
        marks = dict(self._values(run_id, language, len(counts), "marks"))
        pipe = self._store.redis.pipeline(transaction=False)
        for first in range(0, len(counts), RANGE):
            found = marks.get(first, b"")
            if not settled and _apart(expected, found)[1]:
                left += 1
                continue
            value = counts[first : first + RANGE].astype(">i8").tobytes()
            keys = self._keys(run_id, language, first)
            self._store.scripts["replace"](keys=keys, args=[found, value, packed], client=pipe)
        return left + sum(1 for replaced in pipe.execute() if not replaced)

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


def _bits(counted: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Return one 0 or 1 per task, up to the last counted one."""
    bits = np.zeros(int(counted.max(initial=-1)) + 1, np.uint8)
    bits[counted] = 1
    return bits


def _apart(expected: npt.NDArray[np.uint8], marks: bytes) -> tuple[int, int]:
    """Return how many marks are missing, and how many are of tasks that are not expected."""
    found = np.unpackbits(np.frombuffer(marks, np.uint8))
    length = max(len(expected), len(found))
    wanted = np.pad(expected, (0, length - len(expected)))
    found = np.pad(found, (0, length - len(found)))
    return int((wanted > found).sum()), int((found > wanted).sum())
