"""A run's frozen counts."""

import io
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from clipcurate.hashing import hash_bytes, hash_json

Counts = Mapping[str, npt.NDArray[np.int64]]
"""Counts per metadata language, each of shape (entries,)."""


def snapshot_id(run_id: str, quarantined: Sequence[Any], counts: Counts) -> str:
    """Return the hash of run, accepted quarantine and counts."""
    arrays = {name: hash_bytes(counts[name].astype("<i8").tobytes()) for name in sorted(counts)}
    return hash_json({"run": run_id, "quarantined": list(quarantined), "counts": arrays})


def to_bytes(counts: Counts) -> bytes:
    """Return counts as a parquet file: language, entry_id, count."""
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
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def from_bytes(content: bytes) -> dict[str, npt.NDArray[np.int64]]:
    """Read what `to_bytes` wrote."""
    table = pq.read_table(io.BytesIO(content)).combine_chunks()
    languages = table["language"].combine_chunks()
    codes = languages.indices.to_numpy()
    edges = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    counts = table["count"].to_numpy()
    return {
        languages[first].as_py(): counts[first:last] for first, last in itertools.pairwise(edges)
    }


def _zeros(count: int) -> pa.Array:
    return pa.array(np.zeros(count, np.int64))
