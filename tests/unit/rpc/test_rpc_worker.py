import threading
from itertools import count

import pytest
from prometheus_client import REGISTRY

from clipcurate import errors
from clipcurate.rpc.tasks import describe
from clipcurate.rpc.v1 import ledger_pb2 as pb
from clipcurate.rpc.worker import Assignment, Draining, Worker, failure_kind, retry_unavailable
from tests.waiting import wait_until

PATIENCE = 10.0


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.UnreadableInputError(), pb.FAILURE_KIND_INPUT),
        (errors.PoolError(), pb.FAILURE_KIND_PERMANENT),
        (errors.InputChangedError(), pb.FAILURE_KIND_PERMANENT),
        (errors.InvalidInputError(), pb.FAILURE_KIND_PERMANENT),
        (errors.MetadataError(), pb.FAILURE_KIND_PERMANENT),
        (errors.StorageError(), pb.FAILURE_KIND_OTHER),
        (errors.UnavailableError(), pb.FAILURE_KIND_OTHER),
        (errors.NotFoundError(), pb.FAILURE_KIND_OTHER),
        (errors.DatasetError(), pb.FAILURE_KIND_OTHER),
        (errors.ClipcurateError(), pb.FAILURE_KIND_OTHER),
        (MemoryError(), pb.FAILURE_KIND_OTHER),
        (KeyError("x"), pb.FAILURE_KIND_OTHER),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_unreadable_bytes_may_quarantine(error: Exception, kind: int) -> None:
    assert failure_kind(error) == kind


@pytest.fixture
def assignment() -> Assignment:
    task = pb.Task(run_id="0123456789ab", stage=pb.STAGE_WRITE, emission_key="e", index=4)
    run = pb.Run(
        emissions=[pb.Emission(key="d"), pb.Emission(key="e", spec=pb.EmissionSpec(seed=3))]
    )
    return Assignment(pb.Lease(task=task, token="t"), run, threading.Event())


def test_an_assignment_knows_its_task_and_its_emission(assignment: Assignment) -> None:
    assert assignment.task.index == 4
    assert assignment.emission.spec.seed == 3
    assert describe(assignment.task) == "write task 4 of run 01234567"


def test_check_counts_units_and_heeds_orders(assignment: Assignment) -> None:
    assignment.check(3)
    assignment.check()
    assignment.check(4)
    assert assignment.units_done == 7
    assignment.stopping.set()
    with pytest.raises(Draining):
        assignment.check()
    assignment.lost.set()
    with pytest.raises(errors.LeaseLostError, match="write task 4"):
        assignment.check()


def test_a_call_is_repeated_until_its_service_is_back(assignment: Assignment) -> None:
    attempts = []

    def call() -> None:
        attempts.append(1)
        if len(attempts) < 2:
            raise errors.UnavailableError

    retry_unavailable(call, assignment)
    assert len(attempts) == 2


@pytest.mark.parametrize("order", ["stopping", "lost"])
def test_a_call_is_given_up_with_the_task(assignment: Assignment, order: str) -> None:
    def call() -> None:
        raise errors.UnavailableError

    getattr(assignment, order).set()
    with pytest.raises(errors.UnavailableError):
        retry_unavailable(call, assignment)


def test_other_errors_are_not_repeated(assignment: Assignment) -> None:
    attempts = []

    def call() -> None:
        attempts.append(1)
        raise errors.LeaseLostError

    with pytest.raises(errors.LeaseLostError):
        retry_unavailable(call, assignment)
    assert attempts == [1]


class ScriptedLedger:
    """Hands out one task, and answers reports as told."""

    def __init__(self, assignment: Assignment, refusal: errors.ClipcurateError | None) -> None:
        self._claimed: list[pb.ClaimTaskResponse | None] = [
            pb.ClaimTaskResponse(lease=assignment.lease, run=assignment.run)
        ]
        self._refusal = refusal
        self.reports: list[str] = []

    def claim(self, worker: str, stages: object) -> pb.ClaimTaskResponse | None:
        return self._claimed.pop() if self._claimed else None

    def renew(self, lease: pb.Lease, done: int = 0, total: int = 0) -> float:
        return 1.0

    def _report(self, name: str) -> None:
        self.reports.append(name)
        if self._refusal:
            raise self._refusal

    def complete(self, *_: object) -> None:
        self._report("complete")

    def fail(self, *_: object) -> None:
        self._report("fail")

    def release(self, *_: object) -> None:
        self._report("release")


REFUSED = errors.LeaseLostError("somebody else has it")


@pytest.mark.parametrize(
    ("raised", "refusal", "outcome", "reports"),
    [
        (None, None, "done", ["complete"]),
        (None, REFUSED, "lease_lost", ["complete"]),
        (Draining(), None, "released", ["release"]),
        (errors.LeaseLostError("gone"), None, "lease_lost", []),
        (errors.PoolError("no column"), None, "failed", ["fail"]),
        (KeyError("a defect"), None, "failed", ["fail"]),
        (KeyError("a defect"), REFUSED, "lease_lost", ["fail"]),
    ],
)
def test_attempts_are_counted_by_how_they_end(
    assignment: Assignment,
    raised: Exception | None,
    refusal: errors.ClipcurateError | None,
    outcome: str,
    reports: list[str],
) -> None:
    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(f"clipcurate_worker_{name}", labels) or 0

    def handle(given: Assignment) -> pb.TaskResult:
        assert value("busy") == 1
        stopping.set()
        given.units_done = 3
        if raised:
            raise raised
        return pb.TaskResult()

    stopping, stage = threading.Event(), {"stage": "write"}
    assignment.lease.ttl_seconds = 30
    ledger = ScriptedLedger(assignment, refusal)
    before = value("tasks_total", outcome=outcome, **stage), value("task_seconds_count", **stage)
    Worker(ledger, [pb.STAGE_WRITE], handle).run(stopping)  # type: ignore[arg-type]
    after = value("tasks_total", outcome=outcome, **stage), value("task_seconds_count", **stage)
    assert after == (before[0] + 1, before[1] + 1)
    assert value("busy") == 0
    assert ledger.reports == reports


class ManyTasks(ScriptedLedger):
    """Hands out tasks by their number, without end, but to one thread at a time."""

    def __init__(self) -> None:
        self.reports: list[str] = []
        self.renewed: set[str] = set()
        self._numbers = count()
        self._asked = threading.Lock()

    def claim(self, worker: str, stages: object) -> pb.ClaimTaskResponse | None:
        assert self._asked.acquire(blocking=False), "two threads ask at once"
        threading.Event().wait(0.01)  # an answer takes its time
        number = next(self._numbers)
        self._asked.release()
        task = pb.Task(run_id="0123456789ab", stage=pb.STAGE_WRITE, index=number)
        lease = pb.Lease(task=task, token=str(number), ttl_seconds=0.03)
        return pb.ClaimTaskResponse(lease=lease, run=pb.Run())

    def renew(self, lease: pb.Lease, done: int = 0, total: int = 0) -> float:
        self.renewed.add(lease.token)
        return 1.0

    def release(self, lease: pb.Lease, *_: object) -> None:
        self.reports.append(lease.token)


def test_tasks_side_by_side_have_their_leases_renewed_and_are_all_given_back() -> None:
    def handle(given: Assignment) -> pb.TaskResult:
        together.wait(PATIENCE)
        wait_until(lambda: given.lease.token in ledger.renewed, PATIENCE, "a renewal")
        if given.task.index == 1:
            busy.append(REGISTRY.get_sample_value("clipcurate_worker_busy"))
            stopping.set()
        assert stopping.wait(PATIENCE)
        given.check()
        raise AssertionError

    ledger, stopping, together = ManyTasks(), threading.Event(), threading.Barrier(3)
    busy: list[float | None] = []
    worker = Worker(ledger, [pb.STAGE_WRITE], handle)  # type: ignore[arg-type]
    worker.run_side_by_side(stopping, 3)
    assert sorted(ledger.reports) == ["0", "1", "2"]
    assert busy == [3]
    assert REGISTRY.get_sample_value("clipcurate_worker_busy") == 0


def test_a_defect_in_one_thread_ends_all() -> None:
    class Defective(ManyTasks):
        def claim(self, worker: str, stages: object) -> pb.ClaimTaskResponse | None:
            claimed = super().claim(worker, stages)
            assert claimed
            if claimed.lease.task.index == 1:
                raise KeyError("a defect")
            return claimed

    def handle(given: Assignment) -> pb.TaskResult:
        assert given.stopping.wait(PATIENCE)
        given.check()
        raise AssertionError

    ledger = Defective()
    worker = Worker(ledger, [pb.STAGE_WRITE], handle)  # type: ignore[arg-type]
    with pytest.raises(KeyError, match="a defect"):
        worker.run_side_by_side(threading.Event(), 2)
    assert ledger.reports == ["0"]
