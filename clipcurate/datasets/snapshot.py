"""A run's frozen counts."""

import io
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from clipcurate.balancing.stability import projected
from clipcurate.hashing import hash_bytes, hash_json
from clipcurate.parquet_files import read_table

_PROJECTED = b"projected"
_TASKS = b"tasks"
Counts = Mapping[str, npt.NDArray[np.int64]]
"""Counts per metadata language, each of shape (entries,)."""


@dataclass(frozen=True)
class Projection:
    """How counts of a part of a pool were projected to the pool.

    Attributes:
        raw: the counts themselves.
        seen: pairs that they are of.
        announced: pairs of the pool.
        tasks: ascending numbers of the match tasks that the pairs are of, where the others were not
            counted yet; None where they are all that the run's record names.
    """

    raw: Counts
    seen: int
    announced: int
    tasks: tuple[int, ...] | None = None

    @property
    def counts(self) -> dict[str, npt.NDArray[np.int64]]:
        """The projected counts."""
        return {name: projected(raw, self.seen, self.announced) for name, raw in self.raw.items()}

    def identity(self) -> dict[str, Any]:
        """Return what an emission's identity says of it."""
        return {"seen": self.seen, "announced": self.announced, "raw": _hashes(self.raw)}


def _hashes(counts: Counts) -> dict[str, str]:
    return {name: hash_bytes(counts[name].astype("<i8").tobytes()) for name in sorted(counts)}


def snapshot_id(
    run_id: str,
    quarantined: Sequence[Any],
    counts: Counts,
    projection: Mapping[str, Any] | None = None,
) -> str:
    """Return the hash of run, accepted quarantine, counts, and what they were projected from."""
    value = {"run": run_id, "quarantined": list(quarantined), "counts": _hashes(counts)}
    return hash_json(value | ({"projected": dict(projection)} if projection else {}))


def sealed_id(name: str, quarantined: Sequence[Any]) -> str:
    """Return what names the record of a snapshot that was frozen before matching was finished.

    Args:
        name: the snapshot's id, which knows of no quarantine.
        quarantined: the inputs that turned out to be unreadable, before or after.
    """
    return hash_json({"snapshot": name, "quarantined": list(quarantined)})


def to_bytes(counts: Counts, projection: Projection | None = None) -> bytes:
    """Return counts as a parquet file: language, entry_id, count; also raw where projected."""
    names = sorted(counts)
    table = pa.table(
        {
            "language": pa.concat_arrays(
                [pa.array([name], pa.string()).take(_zeros(len(counts[name]))) for name in names]
            ).dictionary_encode(),
            "entry_id": np.concatenate([np.arange(len(counts[n]), dtype=np.uint32) for n in names]),
            "count": np.concatenate([counts[name] for name in names]),
        }
    )
    if projection:
        raw = pa.array(np.concatenate([projection.raw[name] for name in names]))
        about = {_PROJECTED: json.dumps([projection.seen, projection.announced])}
        if projection.tasks is not None:
            about[_TASKS] = _bits(projection.tasks).hex()
        table = table.append_column("raw", raw).replace_schema_metadata(about)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def from_bytes(content: bytes) -> dict[str, npt.NDArray[np.int64]]:
    """Read what `to_bytes` wrote."""
    return _column(read_table(content), "count")


def projection_from_bytes(content: bytes) -> Projection | None:
    """Return how the counts that `to_bytes` wrote were projected; None if they were not."""
    table = read_table(content)
    about = table.schema.metadata or {}
    if _PROJECTED not in about:
        return None
    tasks = None
    if _TASKS in about:
        bits = np.frombuffer(bytes.fromhex(about[_TASKS].decode()), np.uint8)
        tasks = tuple(np.flatnonzero(np.unpackbits(bits)).tolist())
    seen, announced = json.loads(about[_PROJECTED])
    return Projection(_column(table, "raw"), seen, announced, tasks)


def _bits(tasks: Sequence[int]) -> bytes:
    """Return one bit per task up to the last, 1 for those named."""
    bits = np.zeros(max(tasks, default=-1) + 1, np.uint8)
    bits[list(tasks)] = 1
    return np.packbits(bits).tobytes()


def _column(table: pa.Table, name: str) -> dict[str, npt.NDArray[np.int64]]:
    table = table.combine_chunks()
    languages = table["language"].combine_chunks()
    codes = languages.indices.to_numpy()
    edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    counts = table[name].to_numpy()
    return {
        languages[first].as_py(): counts[first:last] for first, last in itertools.pairwise(edges)
    }


def _zeros(count: int) -> pa.Array:
    return pa.array(np.zeros(count, np.int64))
