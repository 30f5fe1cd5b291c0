"""Typed clients. Every call has a deadline; every failure is one of clipcurate's own errors."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import grpc
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from clipcurate.matching import Matches
from clipcurate.rpc.security import channel_credentials
from clipcurate.rpc.settings import MAX_MESSAGE_BYTES, SecuritySettings
from clipcurate.rpc.status import error_from
from clipcurate.rpc.v1 import (
    counter_pb2,
    counter_pb2_grpc,
    ledger_pb2,
    ledger_pb2_grpc,
    matcher_pb2,
    matcher_pb2_grpc,
    sampler_pb2,
    sampler_pb2_grpc,
    trainer_pb2,
    trainer_pb2_grpc,
)

CALL_SECONDS = 30.0
BULK_SECONDS = 600.0
STREAM_SECONDS = 7 * 24 * 3600.0
CHUNK_ENTRIES = 128 * 1024
"""Entries per message of counts: 1 MiB as int64."""

_SERVICE_CONFIG = json.dumps(
    {
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ],
    }
)


def open_channel(target: str, security: SecuritySettings | None = None) -> grpc.Channel:
    """Open a channel that balances over all addresses of `target` and retries UNAVAILABLE."""
    options = [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.service_config", _SERVICE_CONFIG),
        ("grpc.max_reconnect_backoff_ms", 2000),
        # Otherwise a channel of the same target shares its broken connection's back-off.
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
    ]
    credentials = channel_credentials(security) if security else None
    if credentials is None:
        return grpc.insecure_channel(target, options)
    return grpc.secure_channel(target, credentials, options)


class Client:
    """A channel to one service. Use as a context manager, or call `close`."""

    def __init__(self, target: str, security: SecuritySettings | None = None) -> None:
        self.target = target
        self.channel = open_channel(target, security)

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the channel."""
        self.close()

    def close(self) -> None:
        """Close the channel; calls in flight are cancelled."""
        self.channel.close()

    def _call(self, method: Any, request: Any, timeout: float = CALL_SECONDS) -> Any:
        try:
            return method(request, timeout=timeout)
        except grpc.RpcError as error:
            raise error_from(error, self.target) from error

    def _stream(self, method: Any, request: Any, timeout: float = STREAM_SECONDS) -> Iterator[Any]:
        call = method(request, timeout=timeout)
        try:
            yield from call
        except grpc.RpcError as error:
            raise error_from(error, self.target) from error
        finally:
            call.cancel()


class LedgerClient(Client):
    """Runs, tasks and leases. Methods mirror the Ledger service of `ledger.proto`."""

    def __init__(self, target: str, security: SecuritySettings | None = None) -> None:
        super().__init__(target, security)
        self._stub = ledger_pb2_grpc.LedgerStub(self.channel)

    def create_run(
        self,
        run_id: str,
        spec: ledger_pb2.RunSpec,
        emissions: Sequence[ledger_pb2.EmissionSpec],
    ) -> ledger_pb2.Run:
        """Register a run or add emissions to it. Idempotent."""
        request = ledger_pb2.CreateRunRequest(run_id=run_id, spec=spec, emissions=emissions)
        response: ledger_pb2.CreateRunResponse = self._call(self._stub.CreateRun, request)
        return response.run

    def get_run(self, run_id: str) -> ledger_pb2.Run:
        """Return a run with its progress. Raises NotFoundError."""
        request = ledger_pb2.GetRunRequest(run_id=run_id)
        response: ledger_pb2.GetRunResponse = self._call(self._stub.GetRun, request)
        return response.run

    def list_runs(self) -> list[ledger_pb2.Run]:
        """Return all runs, newest first."""
        response: ledger_pb2.ListRunsResponse = self._call(
            self._stub.ListRuns, ledger_pb2.ListRunsRequest()
        )
        return list(response.runs)

    def cancel_run(self, run_id: str) -> ledger_pb2.Run:
        """Stop handing out the run's tasks."""
        request = ledger_pb2.CancelRunRequest(run_id=run_id)
        response: ledger_pb2.CancelRunResponse = self._call(self._stub.CancelRun, request)
        return response.run

    def retry_run(
        self, run_id: str, *, accept_quarantine: bool = False, include_quarantined: bool = False
    ) -> ledger_pb2.Run:
        """Put blocked tasks back to work, or accept them as quarantined."""
        request = ledger_pb2.RetryRunRequest(
            run_id=run_id,
            accept_quarantine=accept_quarantine,
            include_quarantined=include_quarantined,
        )
        response: ledger_pb2.RetryRunResponse = self._call(self._stub.RetryRun, request)
        return response.run

    def watch_run(self, run_id: str, interval_seconds: float = 1.0) -> Iterator[ledger_pb2.Run]:
        """Yield the run now, at every interval, and last when it has ended."""
        request = ledger_pb2.WatchRunRequest(run_id=run_id, interval_seconds=interval_seconds)
        for response in self._stream(self._stub.WatchRun, request):
            yield response.run

    def list_tasks(
        self, run_id: str, stage: ledger_pb2.Stage.ValueType, emission_key: str = ""
    ) -> Iterator[ledger_pb2.TaskRecord]:
        """Yield a stage's tasks in index order."""
        request = ledger_pb2.ListTasksRequest(run_id=run_id, stage=stage, emission_key=emission_key)
        for response in self._stream(self._stub.ListTasks, request, BULK_SECONDS):
            yield from response.tasks

    def claim(
        self, worker: str, stages: Sequence[ledger_pb2.Stage.ValueType]
    ) -> ledger_pb2.ClaimTaskResponse | None:
        """Return a lease and its run, or None if nothing is to be done now."""
        request = ledger_pb2.ClaimTaskRequest(worker=worker, stages=stages)
        response: ledger_pb2.ClaimTaskResponse = self._call(self._stub.ClaimTask, request)
        return response if response.HasField("lease") else None

    def renew(self, lease: ledger_pb2.Lease, done: int = 0, total: int = 0) -> float:
        """Extend a lease and return its new lifetime in seconds. Raises LeaseLostError."""
        request = ledger_pb2.RenewLeaseRequest(lease=lease, units_done=done, units_total=total)
        response: ledger_pb2.RenewLeaseResponse = self._call(self._stub.RenewLease, request)
        return response.ttl_seconds

    def complete(self, lease: ledger_pb2.Lease, result: ledger_pb2.TaskResult) -> None:
        """End a task with its result. Idempotent. Raises LeaseLostError."""
        request = ledger_pb2.CompleteTaskRequest(lease=lease, result=result)
        self._call(self._stub.CompleteTask, request)

    def fail(
        self, lease: ledger_pb2.Lease, kind: ledger_pb2.FailureKind.ValueType, message: str
    ) -> ledger_pb2.TaskState.ValueType:
        """End a failed attempt and return where the task stands. Raises LeaseLostError."""
        request = ledger_pb2.FailTaskRequest(lease=lease, kind=kind, message=message[:4000])
        response: ledger_pb2.FailTaskResponse = self._call(self._stub.FailTask, request)
        return response.state

    def release(self, lease: ledger_pb2.Lease) -> None:
        """Give a task back without blame. Raises LeaseLostError."""
        self._call(self._stub.ReleaseTask, ledger_pb2.ReleaseTaskRequest(lease=lease))


@dataclass(frozen=True)
class LiveCounts:
    """Counts as Redis holds them, and the check that decides whether they may be frozen."""

    counts: dict[str, npt.NDArray[np.int64]]
    checks: tuple[counter_pb2.CountsCheck, ...]

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

        response: counter_pb2.CountTaskResponse = self._call(
            self._stub.CountTask, messages(), BULK_SECONDS
        )
        return response.repeated_adds

    def get_counts(self, run_id: str) -> LiveCounts:
        """Return the live counts with their check."""
        stream = self._stream(
            self._stub.GetCounts, counter_pb2.GetCountsRequest(run_id=run_id), BULK_SECONDS
        )
        checks: tuple[counter_pb2.CountsCheck, ...] = ()
        parts: dict[str, list[npt.NDArray[np.int64]]] = {}
        for message in stream:
            if message.HasField("header"):
                checks = tuple(message.header.checks)
            else:
                chunk = np.frombuffer(message.counts.counts, "<i8").astype(np.int64)
                parts.setdefault(message.counts.language, []).append(chunk)
        return LiveCounts({key: np.concatenate(value) for key, value in parts.items()}, checks)

    def replace_counts(
        self, lease: ledger_pb2.Lease, counts: Mapping[str, npt.NDArray[np.int64]]
    ) -> None:
        """Put recounted counts in place of Redis's. Raises LeaseLostError."""

        def messages() -> Iterator[counter_pb2.ReplaceCountsRequest]:
            header = counter_pb2.ReplaceCountsHeader(lease=lease)
            yield counter_pb2.ReplaceCountsRequest(header=header)
            for language, array in counts.items():
                for chunk in dense_chunks(language, array):
                    yield counter_pb2.ReplaceCountsRequest(counts=chunk)

        self._call(self._stub.ReplaceCounts, messages(), BULK_SECONDS)


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


class MatcherClient(Client):
    """Matching. Methods mirror the Matcher service of `matcher.proto`."""

    def __init__(self, target: str, security: SecuritySettings | None = None) -> None:
        super().__init__(target, security)
        self._stub = matcher_pb2_grpc.MatcherStub(self.channel)

    def list_metadata(self) -> list[matcher_pb2.MetadataInfo]:
        """Return what the server can match against."""
        response: matcher_pb2.ListMetadataResponse = self._call(
            self._stub.ListMetadata, matcher_pb2.ListMetadataRequest()
        )
        return list(response.metadata)

    def match_batch(
        self, texts: Sequence[str], fingerprint: str = "", *, include_entries: bool = False
    ) -> tuple[Matches, list[str]]:
        """Match at most 8,192 texts; return the hits and, if asked, their entries."""
        request = matcher_pb2.MatchBatchRequest(
            metadata_fingerprint=fingerprint, texts=texts, include_entries=include_entries
        )
        response: matcher_pb2.MatchBatchResponse = self._call(self._stub.MatchBatch, request)
        return _matches(response), list(response.entries)

    def match_stream(
        self, batches: Iterable[Sequence[str]], fingerprint: str = ""
    ) -> Iterator[Matches]:
        """Match batches in order; results come while later batches are still being sent."""

        def requests() -> Iterator[matcher_pb2.MatchStreamRequest]:
            for number, texts in enumerate(batches):
                batch = matcher_pb2.MatchBatchRequest(metadata_fingerprint=fingerprint, texts=texts)
                yield matcher_pb2.MatchStreamRequest(batch_id=number, batch=batch)

        for response in self._stream(self._stub.MatchStream, requests()):
            yield _matches(response.hits)


def _matches(response: matcher_pb2.MatchBatchResponse) -> Matches:
    return Matches(
        np.array(response.row_offsets, np.int64), np.array(response.entry_ids, np.uint32)
    )


class SamplerClient(Client):
    """Published pairs. Methods mirror the Sampler service of `sampler.proto`."""

    def __init__(self, target: str, security: SecuritySettings | None = None) -> None:
        super().__init__(target, security)
        self._stub = sampler_pb2_grpc.SamplerStub(self.channel)

    def stream_pairs(
        self,
        run_id: str,
        emission_key: str = "",
        *,
        cursor: int = 0,
        batch_pairs: int = 0,
        columns: Sequence[str] = (),
    ) -> Iterator[tuple[pa.Table, int]]:
        """Yield tables of pairs in dataset order, each with the cursor that resumes after it."""
        request = sampler_pb2.StreamPairsRequest(
            run_id=run_id,
            emission_key=emission_key,
            cursor=cursor,
            batch_pairs=batch_pairs,
            columns=columns,
        )
        for response in self._stream(self._stub.StreamPairs, request):
            yield pa.ipc.open_stream(response.arrow_ipc).read_all(), response.next_cursor


class TrainerClient(Client):
    """Trainings. Methods mirror the Trainer service of `trainer.proto`."""

    def __init__(self, target: str, security: SecuritySettings | None = None) -> None:
        super().__init__(target, security)
        self._stub = trainer_pb2_grpc.TrainerStub(self.channel)

    def start(
        self, dataset_url: str, spec: ledger_pb2.TrainSpec, output_url: str
    ) -> trainer_pb2.Training:
        """Start or resume a training. Idempotent."""
        request = trainer_pb2.StartTrainingRequest(
            dataset_url=dataset_url, spec=spec, output_url=output_url
        )
        response: trainer_pb2.StartTrainingResponse = self._call(self._stub.StartTraining, request)
        return response.training

    def watch(
        self, training_id: str, interval_seconds: float = 1.0
    ) -> Iterator[trainer_pb2.Training]:
        """Yield the training now, at every interval, and last when it has ended."""
        request = trainer_pb2.WatchTrainingRequest(
            training_id=training_id, interval_seconds=interval_seconds
        )
        for response in self._stream(self._stub.WatchTraining, request):
            yield response.training

    def stop(self, training_id: str) -> trainer_pb2.Training:
        """Save a checkpoint and stop."""
        request = trainer_pb2.StopTrainingRequest(training_id=training_id)
        response: trainer_pb2.StopTrainingResponse = self._call(self._stub.StopTraining, request)
        return response.training

    def list(self) -> list[trainer_pb2.Training]:
        """Return the server's trainings, newest first."""
        response: trainer_pb2.ListTrainingsResponse = self._call(
            self._stub.ListTrainings, trainer_pb2.ListTrainingsRequest()
        )
        return [*response.trainings]
