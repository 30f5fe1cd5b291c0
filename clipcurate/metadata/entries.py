"""The entries as a value: a list of distinct, non-empty strings and its fingerprint."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipcurate.errors import MetadataError
from clipcurate.hashing import hash_bytes
from clipcurate.parquet_files import read_table

ALL = "all"
"""The metadata language of a run whose one list of entries serves texts of every language."""

_SHOWN = 10


@dataclass(frozen=True)
class Metadata:
    """Entries in order; an entry's position is its entry id.

    Attributes:
        entries: distinct, non-empty strings.
    """

    entries: tuple[str, ...]

    @classmethod
    def from_entries(cls, entries: Sequence[str], *, dedupe: bool = False) -> "Metadata":
        """Check and wrap entries.

        Args:
            entries: the strings in order.
            dedupe: drop empty entries and repeats (the first stays) instead of refusing them.

        Raises:
            MetadataError: no entry is left; or, without `dedupe`, one is empty or repeated (the
                message gives the positions).
        """
        kept = tuple(dict.fromkeys(entry for entry in entries if entry))
        if not dedupe and len(kept) != len(entries):
            raise MetadataError(_explain(entries))
        if not kept:
            raise MetadataError("the metadata holds no entry")
        return cls(kept)

    @cached_property
    def fingerprint(self) -> str:
        """The hash of the entries in order: xxh3-128 of little-endian u32 lengths, then bytes."""
        encoded = [entry.encode() for entry in self.entries]
        lengths = np.array([len(entry) for entry in encoded], "<u4")
        return hash_bytes(lengths.tobytes(), *encoded)

    def to_bytes(self) -> bytes:
        """Return the entries as a parquet file with one column, `entry`."""
        table = pa.table({"entry": pa.array(self.entries, pa.large_string())})
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Metadata":
        """Read what `to_bytes` wrote."""
        column = read_table(content, ["entry"])["entry"]
        return cls(tuple(column.to_pylist()))


def _explain(entries: Sequence[str]) -> str:
    first: dict[str, int] = {}
    bad: list[str] = []
    for position, entry in enumerate(entries):
        if not entry:
            bad.append(f"{position} is empty")
        elif entry in first:
            bad.append(f"{position} repeats {first[entry]} ({entry!r})")
        else:
            first[entry] = position
    shown = "; ".join(bad[:_SHOWN]) + ("; …" if len(bad) > _SHOWN else "")
    return f"{len(bad)} bad entries (positions from 0): {shown}. Use --dedupe to drop them"
