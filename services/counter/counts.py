"""Counts in Redis: packed ranges, one mark per task and range, and the check before freezing."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.counter.store import Store, run_prefix

RANGE = 8192
"""Entries per range: 64 KiB of counts, which Redis replaces in a fraction of a millisecond."""
WINDOW = 8
"""Ranges that are read and then replaced in one go; others wait no longer than that for Redis."""

Sparse = tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]
Adds = Mapping[str, Sparse]


@dataclass(frozen=True)
class Range:
    """Entries [first, first + length) of one language."""

    language: str
    first: int
    length: int

    @property
    def number(self) -> int:
        """Its number within the language."""
        return self.first // RANGE


@dataclass(frozen=True)
class Put:
    """New marks and counts of a range (counts empty: as they are), made from the known marks."""

    part: Range
    known: bytes
    marks: bytes
    counts: bytes


class CountStore:
    """The counts of all runs. Sizes maps metadata language to number of entries."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(
        self, run_id: str, sizes: Mapping[str, int], tasks: Mapping[int, Adds]
    ) -> dict[int, int]:
        """Add tasks' counts to every range exactly once.

        Ranges without adds get the tasks' marks too, so that a range that comes back older is seen.

        Args:
            run_id: the run.
            sizes: its metadata.
            tasks: per task and language the ascending entry ids and their counts.

        Returns:
            Per task, the number of ranges that it had been added to before.
        """
        repeated: Counter[int] = Counter(dict.fromkeys(tasks, 0))
        waiting = list(ranges(sizes))
        while waiting:
            window, waiting = waiting[:WINDOW], waiting[WINDOW:]
            waiting += self._add_once(run_id, window, tasks, repeated)
        return dict(repeated)

    def _add_once(
        self, run_id: str, window: list[Range], tasks: Mapping[int, Adds], repeated: Counter[int]
    ) -> list[Range]:
        """Try to add to some ranges; return those that someone else changed meanwhile."""
        puts: list[Put] = []
        sent = []
        for part, (counts, marks) in zip(window, self._values(run_id, window), strict=True):
            fresh, new_marks = _unmarked(tasks, marks)
            if fresh:
                new_counts = _added(part, counts, [tasks[task] for task in fresh])
                puts.append(Put(part, marks, new_marks, new_counts))
            sent.append((part, fresh))
        replies = iter(self._put(run_id, puts))
        changed = []
        for part, fresh in sent:
            if fresh and not next(replies):
                changed.append(part)
            else:
                repeated.update(tasks.keys() - fresh)
        return changed

    def read(self, run_id: str, language: str, size: int) -> npt.NDArray[np.int64]:
        """Return the counts of one language, shape (size,); ranges that do not exist are 0."""
        parts = list(ranges({language: size}))
        values = [
            unpacked(part, value)
            for part, (value, _) in zip(parts, self._values(run_id, parts), strict=True)
        ]
        return np.concatenate([np.zeros(0, np.int64), *values])

    def wrong_marks(
        self, run_id: str, language: str, size: int, counted: npt.NDArray[np.int64]
    ) -> tuple[int, int]:
        """Return how many (task, range) marks are wrong, and how many of them are early.

        Wrong marks are missing, or of a task that is not counted; those are early.
        """
        expected = _bits(counted)
        found = [_apart(expected, marks) for marks in self._marks(run_id, {language: size})]
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
        expected, left = _bits(counted), 0
        sizes = {language: len(array) for language, array in counts.items()}
        puts = []
        for part, marks in zip(ranges(sizes), self._marks(run_id, sizes), strict=True):
            if not settled and _apart(expected, marks)[1]:
                left += 1
                continue
            bits = np.packbits(expected).tobytes()
            # Marks must change, and never to what they were: who adds from older counts must see.
            unused = len(marks) - len(bits) + 1 if marks.startswith(bits) else 0
            other = bits + b"\0" * unused
            puts.append(Put(part, marks, other, packed(part, counts)))
        return left + self._put(run_id, puts).count(0)

    def _put(self, run_id: str, puts: Sequence[Put]) -> list[int]:
        """Put values in place; return 1 for each, 0 where the marks are no longer the known.

        The script goes along: a server that has just lost all scripts answers like any other.
        """
        text = self._store.scripts["replace"].text
        run = run_prefix(run_id) + "run"
        with self._store.node(run_id) as node:
            pipe = node.pipeline(transaction=False)
            for put in puts:
                values = (put.known, put.marks, put.counts)
                pipe.eval(text, 3, *self._keys(run_id, put.part), run, *values)
            replies: list[int] = pipe.execute()
        return replies

    def _marks(self, run_id: str, sizes: Mapping[str, int]) -> Iterator[bytes]:
        """Yield each range's marks; empty if absent."""
        keys = [self._keys(run_id, part)[1] for part in ranges(sizes)]
        if keys:
            with self._store.node(run_id) as node:
                values = node.mget(keys)
            yield from (marks or b"" for marks in values)

    def _keys(self, run_id: str, part: Range) -> list[str]:
        prefix, name = run_prefix(run_id), f"{part.language}:{part.number}"
        return [f"{prefix}counts:{name}", f"{prefix}marks:{name}"]

    def _values(self, run_id: str, parts: Iterable[Range]) -> Iterator[tuple[bytes, bytes]]:
        """Yield counts and marks of each range as they were at one moment; empty if absent."""
        with self._store.node(run_id) as node:
            pipe = node.pipeline(transaction=False)
            for part in parts:
                pipe.mget(self._keys(run_id, part))
            values = pipe.execute()
        yield from ((counts or b"", marks or b"") for counts, marks in values)


def ranges(sizes: Mapping[str, int]) -> Iterator[Range]:
    """Yield the ranges of languages of these sizes, in order."""
    for language, size in sizes.items():
        for first in range(0, size, RANGE):
            yield Range(language, first, min(RANGE, size - first))


def _unmarked(tasks: Iterable[int], marks: bytes) -> tuple[list[int], bytes]:
    """Return the tasks without a mark, and the marks with theirs."""
    numbers = list(tasks)
    bits = np.unpackbits(np.frombuffer(marks, np.uint8))
    bits = np.pad(bits, (0, max(max(numbers) + 1 - len(bits), 0)))
    fresh = [task for task in numbers if not bits[task]]
    bits[fresh] = 1
    return fresh, np.packbits(bits).tobytes()


def packed(part: Range, counts: Mapping[str, npt.NDArray[np.int64]]) -> bytes:
    """Return a range's counts as Redis has them: big-endian int64."""
    return counts[part.language][part.first : part.first + part.length].astype(">i8").tobytes()


def unpacked(part: Range, value: bytes) -> npt.NDArray[np.int64]:
    """Return the counts that Redis has of a range, shape (length,); what is absent is 0."""
    counts = np.zeros(part.length, np.int64)
    found = np.frombuffer(value, ">i8")
    counts[: len(found)] = found
    return counts


def _added(part: Range, value: bytes, adds: Iterable[Adds]) -> bytes:
    """Return a range's counts with those of tasks added; empty if there is nothing to add."""
    counts, anything = unpacked(part, value), False
    for task in adds:
        ids, numbers = task.get(part.language, _NONE)
        start, end = np.searchsorted(ids, (part.first, part.first + part.length))
        counts[ids[start:end] - part.first] += numbers[start:end]
        anything = anything or end > start
    return counts.astype(">i8").tobytes() if anything else b""


_NONE = (np.zeros(0, np.uint32), np.zeros(0, np.uint32))


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
