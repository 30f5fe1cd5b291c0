"""The loop that every worker runs: claim a task, renew its lease, do it, report.

A worker holds nothing that matters: it may be killed at any moment, and another one takes over when
its lease expires.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from clipcurate.errors import (
    ClipcurateError,
    InputChangedError,
    InvalidInputError,
    LeaseLostError,
    NotFoundError,
    PoolError,
    UnavailableError,
    UnreadableInputError,
)
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.v1 import ledger_pb2

log = logging.getLogger(__name__)

IDLE_SECONDS = (0.05, 1.0)
"""First and longest pause between claims while there is nothing to do."""
_PERMANENT = (PoolError, InputChangedError, InvalidInputError)


class Draining(Exception):  # noqa: N818 - an order, not an error
    """The process was asked to stop: the handler ends at its next `check`."""


@dataclass
class Assignment:
    """A claimed task, as its handler sees it."""

    lease: ledger_pb2.Lease
    run: ledger_pb2.Run
    stopping: threading.Event
    lost: threading.Event = field(default_factory=threading.Event)
    units_done: int = 0
    units_total: int = 0

    @property
    def task(self) -> ledger_pb2.Task:
        """The task."""
        return self.lease.task

    @property
    def emission(self) -> ledger_pb2.Emission:
        """The emission that the task belongs to."""
        return next(e for e in self.run.emissions if e.key == self.task.emission_key)

    def check(self, units: int = 0) -> None:
        """Report `units` more as done; call it at least every few seconds.

        Raises:
            LeaseLostError: another worker has the task now.
            Draining: the process was asked to stop.
        """
        self.units_done += units
        if self.lost.is_set():
            raise LeaseLostError(f"lease on {describe(self.task)} lost")
        if self.stopping.is_set():
            raise Draining


Handler = Callable[[Assignment], ledger_pb2.TaskResult | None]
"""Does a task and returns its result; None if it has completed the task itself."""


def describe(task: ledger_pb2.Task) -> str:
    """Name a task for people."""
    stage = ledger_pb2.Stage.Name(task.stage).removeprefix("STAGE_").lower()
    return f"{stage} task {task.index} of run {task.run_id[:8]}"


def worker_name() -> str:
    """Name this process for operators."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Worker:
    """Claims tasks of the given stages and passes them to `handler`, one at a time."""

    def __init__(
        self, ledger: LedgerClient, stages: Sequence[ledger_pb2.Stage.ValueType], handler: Handler
    ) -> None:
        self._ledger = ledger
        self._stages = stages
        self._handler = handler
        self._name = worker_name()

    def run(self, stopping: threading.Event) -> None:
        """Work until `stopping` is set; the task in hand is then released."""
        idle = IDLE_SECONDS[0]
        while not stopping.is_set():
            assignment = self._claim(stopping)
            if assignment is None:
                stopping.wait(idle)
                idle = min(idle * 1.5, IDLE_SECONDS[1])
            else:
                idle = IDLE_SECONDS[0]
                self._work(assignment)

    def _claim(self, stopping: threading.Event) -> Assignment | None:
        try:
            claimed = self._ledger.claim(self._name, self._stages)
        except ClipcurateError as error:
            log.warning("cannot claim: %s", error)
            return None
        return claimed and Assignment(claimed.lease, claimed.run, stopping)

    def _work(self, assignment: Assignment) -> None:
        log.info("claimed", extra=_fields(assignment))
        finished = threading.Event()
        renewing = threading.Thread(target=self._renew, args=(assignment, finished), daemon=True)
        renewing.start()
        try:
            self._attempt(assignment)
        except ClipcurateError as error:
            log.warning("report refused: %s", error, extra=_fields(assignment))
        finally:
            finished.set()
            renewing.join()

    def _attempt(self, assignment: Assignment) -> None:
        """Do the task and report how it ended, whatever happens inside."""
        start = time.process_time()
        try:
            result = self._handler(assignment)
        except Draining:
            log.info("released", extra=_fields(assignment))
            self._ledger.release(assignment.lease)
        except LeaseLostError as error:
            log.warning("%s", error, extra=_fields(assignment))
        except Exception as error:  # noqa: BLE001 - the worker's outermost loop
            self._report_failure(assignment, error)
        else:
            if result is not None:
                self._complete(assignment, result)
            spent = {"units": assignment.units_done, "cpu_seconds": time.process_time() - start}
            log.info("done", extra=_fields(assignment) | spent)

    def _complete(self, assignment: Assignment, result: ledger_pb2.TaskResult) -> None:
        retry_unavailable(lambda: self._ledger.complete(assignment.lease, result), assignment)

    def _report_failure(self, assignment: Assignment, error: Exception) -> None:
        known = isinstance(error, ClipcurateError)
        log.error("failed: %s", error, exc_info=None if known else error, extra=_fields(assignment))
        message = str(error) if known else f"{type(error).__name__}: {error}"
        retry_unavailable(
            lambda: self._ledger.fail(assignment.lease, failure_kind(error), message), assignment
        )

    def _renew(self, assignment: Assignment, finished: threading.Event) -> None:
        pause = assignment.lease.ttl_seconds / 3
        while not finished.wait(pause):
            try:
                self._ledger.renew(assignment.lease, assignment.units_done, assignment.units_total)
            except (LeaseLostError, NotFoundError):
                assignment.lost.set()
                return
            except ClipcurateError as error:
                log.warning("cannot renew: %s", error, extra=_fields(assignment))


def failure_kind(error: Exception) -> ledger_pb2.FailureKind.ValueType:
    """Classify an error for the ledger: unreadable input, hopeless, or worth another try."""
    if isinstance(error, UnreadableInputError):
        return ledger_pb2.FAILURE_KIND_INPUT
    if isinstance(error, _PERMANENT):
        return ledger_pb2.FAILURE_KIND_PERMANENT
    return ledger_pb2.FAILURE_KIND_OTHER


def retry_unavailable(call: Callable[[], object], assignment: Assignment) -> None:
    """Repeat an idempotent call while its service is away and the lease may still be ours.

    Raises:
        UnavailableError: the lease is lost or the process stops before the service is back.
    """
    pause = 0.2
    while True:
        try:
            call()
        except UnavailableError as error:
            log.warning("waiting: %s", error, extra=_fields(assignment))
            if assignment.lost.is_set() or assignment.stopping.wait(pause):
                raise
            pause = min(pause * 2, 5.0)
        else:
            return


def _fields(assignment: Assignment) -> dict[str, object]:
    task = assignment.task
    return {
        "run": task.run_id,
        "stage": ledger_pb2.Stage.Name(task.stage),
        "emission": task.emission_key,
        "task": task.index,
    }
