"""The RPCs of Counter and Ledger: messages in, messages out; the rest is in ledger and counts."""

import threading
from collections.abc import Iterator
from typing import TypeVar

import grpc
import numpy as np

from clipcurate.errors import ConflictError, InvalidInputError, UnavailableError
from clipcurate.rpc.clients import dense_chunks, hash_of_tasks
from clipcurate.rpc.v1 import (
    counter_pb2,
    counter_pb2_grpc,
    ledger_pb2,
    ledger_pb2_grpc,
)
from services.counter.committing import GroupCommit
from services.counter.counts import CountStore, Sparse
from services.counter.ledger import ENDED, Ledger
from services.counter.schema import newer_left_out
from services.counter.stability import Stability
from services.counter.stages import StageKey, is_finished

WATCH_SECONDS = 1.0
SHORTEST_WATCH_SECONDS = 0.05
LIST_BYTES = 1 << 20
Message = TypeVar("Message")
_AT_REST = (*ENDED, ledger_pb2.RUN_STATE_BLOCKED)


class LedgerService(ledger_pb2_grpc.LedgerServicer):
    """Ledger of `ledger.proto`."""

    def __init__(self, ledger: Ledger, stopping: threading.Event, threads: int) -> None:
        self._ledger = ledger
        self._stopping = stopping
        self._watchers = threading.BoundedSemaphore(max(threads // 2, 1))

    def CreateRun(
        self, request: ledger_pb2.CreateRunRequest, context: grpc.ServicerContext
    ) -> ledger_pb2.CreateRunResponse:
        self._ledger.create(request.run_id, request.spec, request.emissions, anew=request.anew)
        return ledger_pb2.CreateRunResponse(run=self._ledger.run(request.run_id))

    def GetRun(
        self, request: ledger_pb2.GetRunRequest, context: grpc.ServicerContext
    ) -> ledger_pb2.GetRunResponse:
        return ledger_pb2.GetRunResponse(run=self._ledger.look(request.run_id))

    def ListRuns(
        self, request: ledger_pb2.ListRunsRequest, context: grpc.ServicerContext
    ) -> ledger_pb2.ListRunsResponse:
        response = ledger_pb2.ListRunsResponse()
        for run_id in reversed(self._ledger.run_ids()):
            with newer_left_out():
                response.runs.append(self._ledger.run(run_id))
                continue
            response.newer_run_ids.append(run_id)
        return response

    def CancelRun(
        self, request: ledger_pb2.CancelRunRequest, context: grpc.ServicerContext
    ) -> ledger_pb2.CancelRunResponse:
        self._ledger.cancel(request.run_id)
        return ledger_pb2.CancelRunResponse(run=self._ledger.run(request.run_id))

    def RetryRun(
        self, request: ledger_pb2.RetryRunRequest, context: grpc.ServicerContext
    ) -> ledger_pb2.RetryRunResponse:
        self._ledger.retry(
            request.run_id,
            accept_quarantine=request.accept_quarantine,
            include_quarantined=request.include_quarantined,
        )
        return ledger_pb2.RetryRunResponse(run=self._ledger.run(request.run_id))

    def ArchiveRun(
        self, request: ledger_pb2.ArchiveRunRequest, context: grpc.ServicerContext
    ) -> ledger_pb2.ArchiveRunResponse:
        self._ledger.archive(request.run_id, request.revision, request.archive)
        return ledger_pb2.ArchiveRunResponse(run=self._ledger.run(request.run_id))

    def WatchRun(
        self, request: ledger_pb2.WatchRunRequest, context: grpc.ServicerContext
    ) -> Iterator[ledger_pb2.WatchRunResponse]:
        interval = max(request.interval_seconds or WATCH_SECONDS, SHORTEST_WATCH_SECONDS)
        if not self._watchers.acquire(blocking=False):
            raise UnavailableError("too many watchers; the threads are for workers: try again")
        try:
            yield from self._watch(request.run_id, interval, context)
        finally:
            self._watchers.release()

    def _watch(
        self, run_id: str, interval: float, context: grpc.ServicerContext
    ) -> Iterator[ledger_pb2.WatchRunResponse]:
        while context.is_active():
            run = self._ledger.look(run_id)
            yield ledger_pb2.WatchRunResponse(run=run)
            if run.state in _AT_REST:
                return
            if self._stopping.wait(interval):
                raise UnavailableError("the counter is stopping; watch again")

    def ListTasks(
        self, request: ledger_pb2.ListTasksRequest, context: grpc.ServicerContext
    ) -> Iterator[ledger_pb2.ListTasksResponse]:
        self._ledger.spec(request.run_id)
        key = StageKey(request.stage, request.emission_key)
        if request.HasField("index"):
            record = self._ledger.task(request.run_id, key, request.index)
            yield ledger_pb2.ListTasksResponse(tasks=[record])
            return
        for records in self._ledger.tasks(request.run_id, key):
            yield from list_messages(records)

    def ClaimTask(
        self, request: ledger_pb2.ClaimTaskRequest, context: grpc.ServicerContext
    ) -> ledger_pb2.ClaimTaskResponse:
        lease = self._ledger.claim(request.worker, request.stages)
        if lease is None:
            return ledger_pb2.ClaimTaskResponse()
        run_id = lease.task.run_id
        emissions = [
            self._ledger.emission(run_id, key, spec)
            for key, spec in self._ledger.emissions(run_id).items()
        ]
        run = ledger_pb2.Run(
            run_id=run_id,
            spec=self._ledger.spec(run_id),
            emissions=emissions,
            frozen_early=self._ledger.frozen_early(run_id),
        )
        return ledger_pb2.ClaimTaskResponse(lease=lease, run=run)

    def RenewLease(
        self, request: ledger_pb2.RenewLeaseRequest, context: grpc.ServicerContext
    ) -> ledger_pb2.RenewLeaseResponse:
        ttl = self._ledger.renew(request.lease, request.units_done, request.units_total)
        return ledger_pb2.RenewLeaseResponse(ttl_seconds=ttl)

    def CompleteTask(
        self, request: ledger_pb2.CompleteTaskRequest, context: grpc.ServicerContext
    ) -> ledger_pb2.CompleteTaskResponse:
        if request.result.HasField("match"):
            raise InvalidInputError("a match task is completed by Counter.CountTask")
        self._ledger.complete(request.lease, request.result)
        return ledger_pb2.CompleteTaskResponse()

    def FailTask(
        self, request: ledger_pb2.FailTaskRequest, context: grpc.ServicerContext
    ) -> ledger_pb2.FailTaskResponse:
        state = self._ledger.fail(request.lease, request.kind, request.message)
        return ledger_pb2.FailTaskResponse(state=state)

    def ReleaseTask(
        self, request: ledger_pb2.ReleaseTaskRequest, context: grpc.ServicerContext
    ) -> ledger_pb2.ReleaseTaskResponse:
        self._ledger.release(request.lease)
        return ledger_pb2.ReleaseTaskResponse()


class CounterService(counter_pb2_grpc.CounterServicer):
    """Counter of `counter.proto`."""

    def __init__(self, ledger: Ledger, counts: CountStore, stability: Stability) -> None:
        self._ledger = ledger
        self._counts = counts
        self._stability = stability
        self._commits = GroupCommit(counts)

    def CountTask(
        self,
        request_iterator: Iterator[counter_pb2.CountTaskRequest],
        context: grpc.ServicerContext,
    ) -> counter_pb2.CountTaskResponse:
        header = _first(request_iterator).header
        run_id = header.lease.task.run_id
        adds = _gather(message.counts for message in request_iterator)
        _check_sums(adds, header.result)
        self._ledger.renew(header.lease)
        sizes = self._sizes(run_id)
        repeated = self._commits.add(run_id, sizes, header.lease.task.index, adds)
        self._ledger.complete(header.lease, ledger_pb2.TaskResult(match=header.result))
        self._stability.observe(run_id)
        return counter_pb2.CountTaskResponse(repeated_adds=repeated)

    def GetCounts(
        self, request: counter_pb2.GetCountsRequest, context: grpc.ServicerContext
    ) -> Iterator[counter_pb2.GetCountsResponse]:
        run_id = request.run_id
        sizes = self._sizes(run_id)
        counted, hits = self._ledger.counted_tasks(run_id)
        counts = {name: self._counts.read(run_id, name, size) for name, size in sizes.items()}
        checks = []
        for name, size in sizes.items():
            wrong, early = self._counts.wrong_marks(run_id, name, size, counted)
            check = counter_pb2.CountsCheck(
                language=name,
                sum_counts=int(counts[name].sum()),
                sum_hits=hits.get(name, 0),
                wrong_marks=wrong,
                early_marks=early,
            )
            checks.append(check)
        header = counter_pb2.GetCountsHeader(
            checks=checks, counted_tasks=len(counted), counted_hash=hash_of_tasks(counted)
        )
        yield counter_pb2.GetCountsResponse(header=header)
        for name, array in counts.items():
            for chunk in dense_chunks(name, array):
                yield counter_pb2.GetCountsResponse(counts=chunk)

    def ReplaceCounts(
        self,
        request_iterator: Iterator[counter_pb2.ReplaceCountsRequest],
        context: grpc.ServicerContext,
    ) -> counter_pb2.ReplaceCountsResponse:
        header = _first(request_iterator).header
        run_id = header.run_id
        parts: dict[str, list[bytes]] = {}
        for message in request_iterator:
            parts.setdefault(message.counts.language, []).append(message.counts.counts)
        counts = {k: np.frombuffer(b"".join(v), "<i8").astype(np.int64) for k, v in parts.items()}
        if {name: len(array) for name, array in counts.items()} != self._sizes(run_id):
            raise InvalidInputError("the replacement does not cover exactly the run's metadata")
        self._require_replaceable(header)
        settled = self._is_finished(run_id, ledger_pb2.STAGE_MATCH)
        counted, _ = self._ledger.counted_tasks(run_id)
        if hash_of_tasks(counted) != header.counted_hash:
            raise ConflictError(f"run {run_id}: other tasks are counted by now; recount again")
        left = self._counts.replace(run_id, counts, counted, settled=settled)
        return counter_pb2.ReplaceCountsResponse(ranges_left=left)

    def _require_replaceable(self, header: counter_pb2.ReplaceCountsHeader) -> None:
        """Let pass who freezes the counts, and an operator before they are frozen."""
        task = header.lease.task
        if not header.HasField("lease"):
            if self._is_finished(header.run_id, ledger_pb2.STAGE_FREEZE):
                raise ConflictError(f"run {header.run_id}: its counts are frozen and stay so")
        elif (task.stage, task.run_id) != (ledger_pb2.STAGE_FREEZE, header.run_id):
            raise InvalidInputError("counts are replaced under the lease of the FREEZE task only")
        else:
            self._ledger.renew(header.lease)

    def _is_finished(self, run_id: str, stage: ledger_pb2.Stage.ValueType) -> bool:
        return is_finished(self._ledger.tallies(run_id), StageKey(stage))

    def _sizes(self, run_id: str) -> dict[str, int]:
        return {m.language: m.num_entries for m in self._ledger.spec(run_id).metadata}


def list_messages(records: list[ledger_pb2.TaskRecord]) -> Iterator[ledger_pb2.ListTasksResponse]:
    """Send tasks in messages of about LIST_BYTES: with many languages one alone takes 10 KB."""
    response, size = ledger_pb2.ListTasksResponse(), 0
    for record in records:
        more = record.ByteSize()
        if size and size + more > LIST_BYTES:
            yield response
            response, size = ledger_pb2.ListTasksResponse(), 0
        response.tasks.append(record)
        size += more
    yield response


def _first(messages: Iterator[Message]) -> Message:
    message = next(messages, None)
    if message is None:
        raise InvalidInputError("the stream is empty; a header comes first")
    return message


def _gather(messages: Iterator[counter_pb2.SparseCounts]) -> dict[str, Sparse]:
    parts: dict[str, list[tuple[bytes, bytes]]] = {}
    for message in messages:
        parts.setdefault(message.language, []).append((message.entry_ids, message.counts))
    return {
        language: (
            np.frombuffer(b"".join(ids for ids, _ in chunks), "<u4"),
            np.frombuffer(b"".join(counts for _, counts in chunks), "<u4"),
        )
        for language, chunks in parts.items()
    }


def _check_sums(adds: dict[str, Sparse], result: ledger_pb2.MatchResult) -> None:
    """Refuse a delivery that is cut off or does not say what its header says."""
    sums = {name: int(counts.sum(dtype=np.int64)) for name, (_, counts) in adds.items()}
    announced = {name: hits for name, hits in result.hits.items() if hits}
    if sums != announced:
        raise InvalidInputError(f"counts add up to {sums}, but the header announces {announced}")
    for name, (ids, counts) in adds.items():
        if len(ids) != len(counts) or not (np.diff(ids.astype(np.int64)) > 0).all():
            raise InvalidInputError(f"{name}: entry ids must ascend, one count each")
