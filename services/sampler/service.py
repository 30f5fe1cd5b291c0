"""The RPCs of Sampler."""

from collections.abc import Iterator

import grpc
import pyarrow as pa

from clipcurate.datasets import manifest
from clipcurate.errors import InvalidInputError, NotFoundError
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.v1 import ledger_pb2, sampler_pb2, sampler_pb2_grpc

BATCH_PAIRS = 4096
MAX_BATCH_PAIRS = 65_536
MAX_BYTES = 1 << 20


class SamplerService(sampler_pb2_grpc.SamplerServicer):
    """Sampler of `sampler.proto`. It serves what the ledger lists as published, nothing else."""

    def __init__(self, ledger: LedgerClient) -> None:
        self._ledger = ledger

    def StreamPairs(
        self, request: sampler_pb2.StreamPairsRequest, context: grpc.ServicerContext
    ) -> Iterator[sampler_pb2.StreamPairsResponse]:
        emission = _published(self._ledger.get_run(request.run_id), request.emission_key)
        size = min(request.batch_pairs or BATCH_PAIRS, MAX_BATCH_PAIRS)
        cursor = request.cursor
        for table in _from(emission.plan.dataset_url, cursor, list(request.columns)):
            for batch in _batches(table, size):
                cursor += batch.num_rows
                yield sampler_pb2.StreamPairsResponse(arrow_ipc=_ipc(batch), next_cursor=cursor)


def _published(run: ledger_pb2.Run, key: str) -> ledger_pb2.Emission:
    found = [e for e in run.emissions if e.HasField("published") and key in ("", e.key)]
    if not found:
        raise NotFoundError(f"run {run.run_id}: no published emission {key!r}")
    if len(found) > 1:
        keys = ", ".join(e.key for e in found)
        raise InvalidInputError(f"run {run.run_id}: name an emission, one of {keys}")
    return found[0]


def _from(dataset_url: str, cursor: int, columns: list[str]) -> Iterator[pa.Table]:
    """Yield the parts from the cursor on; parts before it are not read."""
    for file in manifest.load(dataset_url).of_role("pairs"):
        if cursor < file.rows:
            table = manifest.read_part(dataset_url, file)
            yield _select(table, columns).slice(cursor)
        cursor = max(cursor - file.rows, 0)


def _select(table: pa.Table, columns: list[str]) -> pa.Table:
    if unknown := [name for name in columns if name not in table.column_names]:
        known = ", ".join(table.column_names)
        raise InvalidInputError(f"no column {unknown[0]!r}; the dataset has {known}")
    return table.select(columns) if columns else table


def _batches(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """Cut a table into pieces of at most `rows` rows and about MAX_BYTES; at least a row each."""
    for first in range(0, table.num_rows, rows):
        piece = table.slice(first, rows)
        if piece.nbytes > MAX_BYTES and piece.num_rows > 1:
            yield from _batches(piece, (piece.num_rows + 1) // 2)
        else:
            yield piece


def _ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
