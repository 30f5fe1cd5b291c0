"""Client of the Counter service."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clipcurate.hashing import hash_bytes
from clipcurate.rpc.clients.base import BULK_SECONDS, Client
from clipcurate.rpc.settings import SecuritySettings
from clipcurate.rpc.v1 import counter_pb2, counter_pb2_grpc, ledger_pb2

CHUNK_ENTRIES = 128 * 1024
"""Entries per message of counts: 1 MiB as int64."""


@dataclass(frozen=True)
class LiveCounts:
    """Counts as Redis holds them, and the check that decides whether they may be frozen."""

    counts: dict[str, npt.NDArray[np.int64]]
    checks: tuple[counter_pb2.CountsCheck, ...]
    counted_hash: str

    @property
    def consistent(self) -> bool:
        """Σ counts = Σ hits in every language, and every mark is right."""
        return all(c.sum_counts == c.sum_hits and not c.wrong_marks for c in self.checks)


class CounterClient(Client):
    """Counts. Methods mirror the Counter service of `counter.proto`."""

    def __init__(self, target: str, security: SecuritySettings | None = None) -> None:
        super().__init__(target, security)
        self._stub = counter_pb2_grpc.CounterStub(self.channel)

    def count_task(
        self,
        lease: ledger_pb2.Lease,
        result: ledger_pb2.MatchResult,
        counts: Mapping[str, tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]],
    ) -> int:
        """Stream a match task's sparse counts and complete it; return how many were repeated.

        Args:
            lease: of the match task.
            result: what the ledger keeps of it.
            counts: per language the ascending entry ids and how many texts match each.

        Raises:
            LeaseLostError: the lease is void; nothing changed.
        """
        header = counter_pb2.CountTaskHeader(lease=lease, result=result)

        def messages() -> Iterator[counter_pb2.CountTaskRequest]:
            yield counter_pb2.CountTaskRequest(header=header)
            for language, (ids, adds) in counts.items():
                for chunk in _sparse_chunks(language, ids, adds):
                    yield counter_pb2.CountTaskRequest(counts=chunk)

        response: counter_pb2.CountTaskResponse = self.call(
            self._stub.CountTask, messages(), BULK_SECONDS
        )
        return response.repeated_adds

    def get_counts(self, run_id: str) -> LiveCounts:
        """Return the live counts with their check."""
        stream = self.stream(
            self._stub.GetCounts, counter_pb2.GetCountsRequest(run_id=run_id), BULK_SECONDS
        )
        header = counter_pb2.GetCountsHeader()
        parts: dict[str, list[npt.NDArray[np.int64]]] = {}
        for message in stream:
            if message.HasField("header"):
                header = message.header
            else:
                chunk = np.frombuffer(message.counts.counts, "<i8").astype(np.int64)
                parts.setdefault(message.counts.language, []).append(chunk)
        counts = {key: np.concatenate(value) for key, value in parts.items()}
        return LiveCounts(counts, tuple(header.checks), header.counted_hash)

    def replace_counts(
        self,
        run_id: str,
        counts: Mapping[str, npt.NDArray[np.int64]],
        counted: Sequence[int],
        lease: ledger_pb2.Lease | None = None,
    ) -> int:
        """Put recounted counts in place of Redis's; return how many ranges were left as they are.

        Args:
            run_id: the run.
            counts: of the counted tasks' match indexes, per language.
            counted: the ascending numbers of those tasks.
            lease: of the run's FREEZE task; None where an operator repairs a run before it.

        Raises:
            LeaseLostError: the lease is void; nothing changed.
            ConflictError: other tasks are counted by now, or the run is frozen; nothing changed.
        """
        header = counter_pb2.ReplaceCountsHeader(
            lease=lease, run_id=run_id, counted_hash=hash_of_tasks(counted)
        )

        def messages() -> Iterator[counter_pb2.ReplaceCountsRequest]:
            yield counter_pb2.ReplaceCountsRequest(header=header)
            for language, array in counts.items():
                for chunk in dense_chunks(language, array):
                    yield counter_pb2.ReplaceCountsRequest(counts=chunk)

        response: counter_pb2.ReplaceCountsResponse = self.call(
            self._stub.ReplaceCounts, messages(), BULK_SECONDS
        )
        return response.ranges_left


def hash_of_tasks(counted: Sequence[int] | npt.NDArray[np.int64]) -> str:
    """Return the hash of which tasks are counted, given their ascending numbers."""
    return hash_bytes(np.asarray(counted, "<i8").tobytes())


def dense_chunks(language: str, counts: npt.NDArray[np.int64]) -> Iterator[counter_pb2.DenseCounts]:
    """Cut dense counts into messages of about 1 MiB."""
    for first in range(0, len(counts), CHUNK_ENTRIES):
        packed = counts[first : first + CHUNK_ENTRIES].astype("<i8").tobytes()
        yield counter_pb2.DenseCounts(language=language, first_entry=first, counts=packed)


def _sparse_chunks(
    language: str, ids: npt.NDArray[np.uint32], counts: npt.NDArray[np.uint32]
) -> Iterator[counter_pb2.SparseCounts]:
    for first in range(0, len(ids), CHUNK_ENTRIES):
        part = slice(first, first + CHUNK_ENTRIES)
        yield counter_pb2.SparseCounts(
            language=language,
            entry_ids=ids[part].astype("<u4").tobytes(),
            counts=counts[part].astype("<u4").tobytes(),
        )
