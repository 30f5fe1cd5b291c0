"""The loop that every worker runs: claim a task, renew its lease, do it, report.

Each attempt is counted, is a trace of its own, and has its task in every line of its logs.

A worker holds nothing that matters: it may be killed at any moment, and another one takes over when
its lease expires.
"""

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client import Counter, Gauge, Histogram

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
from clipcurate.rpc import logs, tracing
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.tasks import describe, fields_of, stage_name
from clipcurate.rpc.v1 import ledger_pb2

log = logging.getLogger(__name__)

TASKS = Counter(
    "clipcurate_worker_tasks_total", "Attempts at tasks that have ended", ["stage", "outcome"]
)
TASK_SECONDS = Histogram(
    "clipcurate_worker_task_seconds",
    "Duration of attempts at tasks, however they ended",
    ["stage"],
    buckets=(0.1, 0.3, 1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600, 6 * 3600, 24 * 3600),
)
BUSY = Gauge("clipcurate_worker_busy", "Tasks in hand")

Outcome = Literal["done", "failed", "released", "lease_lost"]
"""How an attempt ended, as this worker knows it."""

IDLE_SECONDS = (0.05, 1.0)
"""First and longest pause between claims while there is nothing to do."""
LEASE_DIGITS = 8
"""Of a fencing token, as logs and traces show it: not enough to use it."""
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


def worker_name() -> str:
    """Name this process for operators."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Worker:
    """Claims tasks of the given stages and passes them to `handler`."""

    def __init__(
        self, ledger: LedgerClient, stages: Sequence[ledger_pb2.Stage.ValueType], handler: Handler
    ) -> None:
        self._ledger = ledger
        self._stages = stages
        self._handler = handler
        self._name = worker_name()
        self._asking = threading.Lock()

    def run(self, stopping: threading.Event) -> None:
        """Work on one task at a time until `stopping` is set; the task in hand is then released."""
        while not stopping.is_set():
            assignment = self._next(stopping)
            if assignment is not None:
                self._work(assignment)

    def run_side_by_side(self, stopping: threading.Event, tasks: int) -> None:
        """Work like `run` on up to so many tasks at once, each in a thread of its own.

        A thread that a defect ends sets `stopping`, and its error is raised once all have ended.
        """
        with ThreadPoolExecutor(tasks, thread_name_prefix="task") as threads:
            loops = [threads.submit(self.run, stopping) for _ in range(tasks)]
            wait(loops, return_when=FIRST_EXCEPTION)
            stopping.set()
        for loop in loops:
            loop.result()

    def _next(self, stopping: threading.Event) -> Assignment | None:
        """Wait for a task; None once stopping. One thread asks at a time, however many wait."""
        idle = IDLE_SECONDS[0]
        with self._asking:
            while not stopping.is_set():
                assignment = self._claim(stopping)
                if assignment is not None:
                    return assignment
                stopping.wait(idle)
                idle = min(idle * 1.5, IDLE_SECONDS[1])
        return None

    def _claim(self, stopping: threading.Event) -> Assignment | None:
        try:
            claimed = self._ledger.claim(self._name, self._stages)
        except ClipcurateError as error:
            log.warning("cannot claim: %s", error)
            return None
        return claimed and Assignment(claimed.lease, claimed.run, stopping)

    def _work(self, assignment: Assignment) -> None:
        with self._in_hand(assignment):
            log.info("claimed")
            start = time.perf_counter(), time.process_time()
            outcome = self._renewed(assignment)
            # Processor time is that of the process, with what else it did meanwhile.
            seconds, cpu_seconds = time.perf_counter() - start[0], time.process_time() - start[1]
            stage = stage_name(assignment.task.stage)
            TASKS.labels(stage, outcome).inc()
            TASK_SECONDS.labels(stage).observe(seconds)
            spent = {"units": assignment.units_done, "seconds": seconds, "cpu_seconds": cpu_seconds}
            log.info(outcome, extra={"outcome": outcome, **spent})

    @contextmanager
    def _in_hand(self, assignment: Assignment) -> Iterator[None]:
        """Let others know, in the block, what this worker is at."""
        task = fields_of(assignment.task)
        who = {"worker": self._name, "lease": assignment.lease.token[:LEASE_DIGITS]}
        attributes = {f"clipcurate.{name}": value for name, value in {**task, **who}.items()}
        name, cause = f"task {task['stage']}", assignment.lease.trace_parent
        with tracing.task(name, attributes, cause), logs.about(**task, **who):
            BUSY.inc()
            try:
                yield
            finally:
                BUSY.dec()

    def _renewed(self, assignment: Assignment) -> Outcome:
        """Do the task while its lease is renewed; say how that ended."""
        finished, context = threading.Event(), copy_context()
        renewing = threading.Thread(
            target=context.run, args=(self._renew, assignment, finished), daemon=True
        )
        renewing.start()
        try:
            return self._attempt(assignment)
        except ClipcurateError as error:
            log.warning("report refused: %s", error)
            tracing.fail(str(error))
            return "lease_lost"
        finally:
            finished.set()
            renewing.join()

    def _attempt(self, assignment: Assignment) -> Outcome:
        """Do the task and report how it ended, whatever happens inside.

        Raises:
            ClipcurateError: the report was not taken, so the lease has run out, or will.
        """
        try:
            result = self._handler(assignment)
        except Draining:
            self._ledger.release(assignment.lease)
            return "released"
        except LeaseLostError as error:
            log.warning("%s", error)
            tracing.fail(str(error))
            return "lease_lost"
        except Exception as error:  # noqa: BLE001 - the worker's outermost loop
            self._report_failure(assignment, error)
            return "failed"
        if result is not None:
            self._complete(assignment, result)
        return "done"

    def _complete(self, assignment: Assignment, result: ledger_pb2.TaskResult) -> None:
        retry_unavailable(lambda: self._ledger.complete(assignment.lease, result), assignment)

    def _report_failure(self, assignment: Assignment, error: Exception) -> None:
        known = isinstance(error, ClipcurateError)
        log.error("failed: %s", error, exc_info=None if known else error)
        message = str(error) if known else f"{type(error).__name__}: {error}"
        tracing.fail(message)
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
                log.warning("cannot renew: %s", error)


def failure_kind(error: Exception) -> ledger_pb2.FailureKind.ValueType:
    """Classify an error for the ledger: unreadable input, hopeless, or worth another try."""
    if isinstance(error, UnreadableInputError):
        return ledger_pb2.FAILURE_KIND_INPUT
    if isinstance(error, _PERMANENT):
        return ledger_pb2.FAILURE_KIND_PERMANENT
    return ledger_pb2.FAILURE_KIND_OTHER


def retry_unavailable(call: Callable[[], object], assignment: Assignment) -> None:
    """Repeat an idempotent call while its service is away and the lease may still be ours.

    Unlike `patience`, it ends with the lease, and with the process, not after a time.

    Raises:
        UnavailableError: the lease is lost or the process stops before the service is back.
    """
    pause = 0.2
    while True:
        try:
            call()
        except UnavailableError as error:
            log.warning("waiting: %s", error)
            if assignment.lost.is_set() or assignment.stopping.wait(pause):
                raise
            pause = min(pause * 2, 5.0)
        else:
            return
