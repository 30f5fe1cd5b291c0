"""Which pairs repeat an earlier one. Pure: decides from ids, reads and writes nothing.

What is kept or dropped is a *unit*: a pair (by uid), or all pairs of one pool row (by url). It
bears the number of its first pair in its task. Of the units with one id the first in (shard name,
row, text) order stays, which is the order of tasks and of pairs in them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipcurate.balancing.coins import coins
from clipcurate.datasets.pair_ids import Halves, image_ids, pair_uids
from clipcurate.errors import InvalidInputError

By = Literal["uid", "url"]
KINDS: tuple[By, ...] = ("uid", "url")
PARTITION_TASKS = 10
"""Ids per partition, as a multiple of rows per task: about 10 million, 1 GB in memory."""

Units = npt.NDArray[np.uint32]
_HALVES_BYTES, _UNIT_BYTES = 16, 4


@dataclass(frozen=True)
class Dedup:
    """How a run finds duplicates.

    Attributes:
        by: uid (pairs with the same uid), or url (rows with the same url, or image key where there
            is no url; a row's own texts stay together).
        partitions: into how many parts the ids are parted. Decides nothing.
    """

    by: By
    partitions: int

    @classmethod
    def of(cls, by: By | None, rows: int, task_rows: int) -> "Dedup | None":
        """Return how a pool of so many rows is gone through; None where duplicates stay."""
        return by and cls(by, max(1, -(-rows // (PARTITION_TASKS * task_rows))))


def parse_kind(name: str) -> By | None:
    """Return what users call so; None for "". Raises InvalidInputError."""
    for kind in KINDS:
        if name == kind:
            return kind
    if name:
        raise InvalidInputError(f"unknown dedup {name!r}; known: {', '.join(KINDS)}")
    return None


@dataclass
class UnitNumbers:
    """Numbers the units of a task, batch by batch in reading order."""

    by: By
    pairs: int = 0
    row: tuple[int, int] = (-1, -1)
    unit: int = 0

    def of(self, shard: int, pairs: pa.Table) -> Units:
        """Return the unit of each pair of the task's next batch, shape (n,)."""
        places = self.pairs + np.arange(pairs.num_rows)
        self.pairs += pairs.num_rows
        if self.by == "url" and len(places):
            rows = pairs["row"].to_numpy()
            begins = np.append((shard, int(rows[0])) != self.row, rows[1:] != rows[:-1])
            places = np.maximum.accumulate(np.where(begins, places, self.unit))
            self.row, self.unit = (shard, int(rows[-1])), int(places[-1])
        return places.astype(np.uint32)


@dataclass(frozen=True)
class Keys:
    """Ids, shape (n, 2), with the units that bear them, shape (n,), in reading order."""

    ids: Halves
    units: Units

    def __len__(self) -> int:
        """Return the number of ids."""
        return len(self.units)

    def __getitem__(self, places: npt.NDArray[Any]) -> "Keys":
        """Return some of them."""
        return Keys(self.ids[places], self.units[places])

    @classmethod
    def of(cls, by: By, pairs: pa.Table, units: Units) -> "Keys":
        """Return the ids of a table of pairs. Rejected ones, and rows without id, have none."""
        present = pairs["text"].is_valid().to_numpy()
        used = pairs.filter(pa.array(present))
        if by == "uid":
            return cls(pair_uids(used), units[present])
        ids, named = image_ids(used)
        return cls(ids, units[present])[named]

    @classmethod
    def concatenate(cls, parts: "Sequence[Keys]") -> "Keys":
        """Stack keys."""
        ids = np.concatenate([np.zeros((0, 2), np.uint64), *(part.ids for part in parts)])
        return cls(ids, np.concatenate([np.zeros(0, np.uint32), *(part.units for part in parts)]))

    def to_bytes(self) -> bytes:
        """Return the ids, then the units, little-endian."""
        return self.ids.astype("<u8").tobytes() + self.units.astype("<u4").tobytes()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Keys":
        """Read what `to_bytes` wrote."""
        count = len(content) // (_HALVES_BYTES + _UNIT_BYTES)
        ids = np.frombuffer(content, "<u8", 2 * count).reshape(-1, 2)
        return cls(ids, np.frombuffer(content, "<u4", count, _HALVES_BYTES * count))


def decide(ids: Halves, units: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int64], ...]:
    """Return where each id occurs first, and where another unit repeats it; both ascending."""
    order = np.lexsort((ids[:, 1], ids[:, 0]))
    sorted_ids = ids[order]
    begins = np.ones(len(order), np.bool_)
    begins[1:] = (sorted_ids[1:] != sorted_ids[:-1]).any(1)
    del sorted_ids
    firsts = order[begins]
    repeats = order[units[order] != units[firsts][np.cumsum(begins) - 1]]
    return np.sort(firsts), np.sort(repeats)


def part(keys: Keys, partitions: int) -> list[bytes]:
    """Return a task's ids by partition, each once, and last the units that repeat one of the task.

    The partition is the coin of the id with seed 0, cut evenly: a pool's own uids may begin alike.
    """
    firsts, repeats = decide(keys.ids, keys.units)
    kept = keys[firsts]
    number = (coins(kept.ids, seed=0) * partitions).astype(np.uint32)
    order = np.argsort(number, kind="stable")
    edges = np.searchsorted(number[order], np.arange(partitions + 1))
    parts = [kept[order[edges[i] : edges[i + 1]]].to_bytes() for i in range(partitions)]
    return [*parts, units_to_bytes(keys.units[repeats])]


def find_repeats(sections: Iterable[bytes]) -> list[bytes]:
    """Return per task the units that repeat one of an earlier task.

    Args:
        sections: the ids of one partition, per task in order; empty where a task is quarantined.
    """
    keys = [Keys.from_bytes(section) for section in sections]
    ends = np.cumsum([len(one) for one in keys])
    everything = Keys.concatenate(keys)
    del keys
    _, repeats = decide(everything.ids, np.arange(len(everything)))
    pieces = np.split(everything.units[repeats], np.searchsorted(repeats, ends[:-1]))
    return [units_to_bytes(piece) for piece in pieces]


def units_to_bytes(units: Units) -> bytes:
    """Return units as little-endian uint32."""
    return units.astype("<u4").tobytes()


@dataclass
class Duplicates:
    """The duplicates among a task's pairs, asked for batch by batch in reading order."""

    by: By
    dropped: Units
    numbers: UnitNumbers = field(init=False)

    def __post_init__(self) -> None:
        """Begin at the task's first pair."""
        self.numbers = UnitNumbers(self.by)

    @classmethod
    def from_bytes(cls, by: By, sections: Iterable[bytes]) -> "Duplicates":
        """Join what `part` and `find_repeats` found in a task."""
        dropped = np.frombuffer(b"".join(sections), "<u4")
        return cls(by, np.sort(dropped))

    def among(self, shard: int, pairs: pa.Table) -> npt.NDArray[np.bool_]:
        """Return which pairs of the next batch are dropped, shape (n,); rejected ones never are."""
        units = self.numbers.of(shard, pairs)
        if not len(self.dropped):
            return np.zeros(len(units), np.bool_)
        places = np.minimum(np.searchsorted(self.dropped, units), len(self.dropped) - 1)
        usable = pairs["text"].is_valid().to_numpy()
        among: npt.NDArray[np.bool_] = usable & (self.dropped[places] == units)
        return among
