"""Client of the Ledger service."""

from collections.abc import Iterator, Sequence

from clipcurate.rpc.clients.base import BULK_SECONDS, Client
from clipcurate.rpc.settings import SecuritySettings
from clipcurate.rpc.v1 import ledger_pb2, ledger_pb2_grpc

MESSAGE_CHARACTERS = 4000


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
        *,
        anew: bool = False,
    ) -> ledger_pb2.Run:
        """Register a run or add emissions to it. Idempotent.

        Raises:
            InvalidInputError: the request cannot be meant.
            ConflictError: the run is known with other settings; or it is archived, and shall not
                start `anew`.
        """
        request = ledger_pb2.CreateRunRequest(
            run_id=run_id, spec=spec, emissions=emissions, anew=anew
        )
        response: ledger_pb2.CreateRunResponse = self.call(self._stub.CreateRun, request)
        return response.run

    def get_run(self, run_id: str) -> ledger_pb2.Run:
        """Return a run with its progress. Raises NotFoundError."""
        request = ledger_pb2.GetRunRequest(run_id=run_id)
        response: ledger_pb2.GetRunResponse = self.call(self._stub.GetRun, request)
        return response.run

    def list_runs(self) -> ledger_pb2.ListRunsResponse:
        """Return all runs, newest first, and the ids of those that the counter is too old for."""
        response: ledger_pb2.ListRunsResponse = self.call(
            self._stub.ListRuns, ledger_pb2.ListRunsRequest()
        )
        return response

    def cancel_run(self, run_id: str) -> ledger_pb2.Run:
        """Stop handing out the run's tasks."""
        request = ledger_pb2.CancelRunRequest(run_id=run_id)
        response: ledger_pb2.CancelRunResponse = self.call(self._stub.CancelRun, request)
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
        response: ledger_pb2.RetryRunResponse = self.call(self._stub.RetryRun, request)
        return response.run

    def archive_run(
        self, run_id: str, revision: str, archive: ledger_pb2.ObjectRef
    ) -> ledger_pb2.Run:
        """Take a run that has ended out of Redis; return what stays there. Idempotent.

        Args:
            run_id: the run.
            revision: of the run that the archive was made from.
            archive: the archive in storage.

        Raises:
            NotFoundError: the run is unknown.
            ConflictError: it has not ended, or has changed since.
        """
        request = ledger_pb2.ArchiveRunRequest(run_id=run_id, revision=revision, archive=archive)
        response: ledger_pb2.ArchiveRunResponse = self.call(
            self._stub.ArchiveRun, request, BULK_SECONDS
        )
        return response.run

    def watch_run(self, run_id: str, interval_seconds: float = 1.0) -> Iterator[ledger_pb2.Run]:
        """Yield the run now, at every interval, and last when it has ended."""
        request = ledger_pb2.WatchRunRequest(run_id=run_id, interval_seconds=interval_seconds)
        for response in self.stream(self._stub.WatchRun, request):
            yield response.run

    def list_tasks(
        self, run_id: str, stage: ledger_pb2.Stage.ValueType, emission_key: str = ""
    ) -> Iterator[ledger_pb2.TaskRecord]:
        """Yield a stage's tasks in index order."""
        request = ledger_pb2.ListTasksRequest(run_id=run_id, stage=stage, emission_key=emission_key)
        for response in self.stream(self._stub.ListTasks, request, BULK_SECONDS):
            yield from response.tasks

    def get_task(
        self, run_id: str, stage: ledger_pb2.Stage.ValueType, index: int, emission: str = ""
    ) -> ledger_pb2.TaskRecord:
        """Return one task of one of the run's own stages, or of one of an emission's."""
        request = ledger_pb2.ListTasksRequest(
            run_id=run_id, stage=stage, emission_key=emission, index=index
        )
        (response,) = self.stream(self._stub.ListTasks, request)
        record: ledger_pb2.TaskRecord = response.tasks[0]
        return record

    def claim(
        self, worker: str, stages: Sequence[ledger_pb2.Stage.ValueType]
    ) -> ledger_pb2.ClaimTaskResponse | None:
        """Return a lease and its run, or None if nothing is to be done now."""
        request = ledger_pb2.ClaimTaskRequest(worker=worker, stages=stages)
        response: ledger_pb2.ClaimTaskResponse = self.call(self._stub.ClaimTask, request)
        return response if response.HasField("lease") else None

    def renew(self, lease: ledger_pb2.Lease, done: int = 0, total: int = 0) -> float:
        """Extend a lease and return its new lifetime in seconds. Raises LeaseLostError."""
        request = ledger_pb2.RenewLeaseRequest(lease=lease, units_done=done, units_total=total)
        response: ledger_pb2.RenewLeaseResponse = self.call(self._stub.RenewLease, request)
        return response.ttl_seconds

    def complete(self, lease: ledger_pb2.Lease, result: ledger_pb2.TaskResult) -> None:
        """End a task with its result. Idempotent. Raises LeaseLostError."""
        request = ledger_pb2.CompleteTaskRequest(lease=lease, result=result)
        self.call(self._stub.CompleteTask, request)

    def fail(
        self, lease: ledger_pb2.Lease, kind: ledger_pb2.FailureKind.ValueType, message: str
    ) -> ledger_pb2.TaskState.ValueType:
        """End a failed attempt and return where the task stands. Raises LeaseLostError."""
        request = ledger_pb2.FailTaskRequest(lease=lease, kind=kind, message=_sendable(message))
        response: ledger_pb2.FailTaskResponse = self.call(self._stub.FailTask, request)
        return response.state

    def release(self, lease: ledger_pb2.Lease) -> None:
        """Give a task back without blame. Raises LeaseLostError."""
        self.call(self._stub.ReleaseTask, ledger_pb2.ReleaseTaskRequest(lease=lease))


def _sendable(message: str) -> str:
    """Cut a message to a length that a ledger holds, and escape what UTF-8 cannot hold."""
    return message[:MESSAGE_CHARACTERS].encode("utf-8", "backslashreplace").decode()
