"""The ledger: runs, their stages and tasks, and who works on what, as Redis holds it."""

import secrets
import time
from collections.abc import Sequence

from clipcurate.datasets.request import require_groupable, require_no_whole
from clipcurate.errors import InvalidInputError, LeaseLostError
from clipcurate.rpc.emissions import request_of
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.archiving import archive
from services.counter.metrics import note_expired
from services.counter.records import state_of, task_of, totals_of
from services.counter.registering import register, require_same, turn
from services.counter.run_reader import RunReader
from services.counter.schema import newer_left_out
from services.counter.settings import CounterSettings
from services.counter.stages import (
    FREEZE,
    MATCH,
    SEAL,
    StageKey,
    hand_out_scores,
    reading_stages,
    stages_before,
)
from services.counter.store import ACTIVE_RUNS, RUNS, Store, run_prefix
from services.counter.windows import frozen_when, rule_of

MAX_TASKS = 10_000_000
OPEN_CHUNK = 2000
"""Tasks added to a queue per script call, which keeps it below 10 ms."""
ENDED = (pb.RUN_STATE_DONE, pb.RUN_STATE_CANCELLED, pb.RUN_STATE_ARCHIVED)
_MILLISECONDS = 1000
_KINDS = {
    pb.FAILURE_KIND_INPUT: "input",
    pb.FAILURE_KIND_OTHER: "other",
    pb.FAILURE_KIND_PERMANENT: "permanent",
}

_SEALING: dict[int, str] = {
    pb.STAGE_FREEZE: "freezing",
    pb.STAGE_SEAL: "sealing",
    pb.STAGE_DEDUP: "deduplication",
}


class Ledger(RunReader):
    """Every method is one or a few atomic steps in Redis; none keeps state of its own."""

    def __init__(self, store: Store, settings: CounterSettings) -> None:
        super().__init__(store)
        self._lease_ms = int(settings.lease_seconds * _MILLISECONDS)
        self._backoff_ms = int(settings.backoff_seconds * _MILLISECONDS)
        self._max_failures = settings.max_failures
        self._second_opinion_ms = int(settings.second_opinion_seconds * _MILLISECONDS)

    def create(
        self,
        run_id: str,
        spec: pb.RunSpec,
        emissions: Sequence[pb.EmissionSpec],
        *,
        anew: bool = False,
    ) -> None:
        """Register a run, or add emissions to it; revives a cancelled one. Idempotent.

        An archived run starts anew, from nothing, where that is wanted.

        Raises:
            InvalidInputError: the request is incomplete or cannot be meant, or a client of another
                version means something that is unknown here.
            ConflictError: the run is known and writes to another folder, or its counts stand for
                another number of pairs, or are frozen at another moment; or it is archived, and
                shall not start anew.
        """
        if not run_id or not spec.num_tasks or not spec.metadata:
            raise InvalidInputError("a run needs an id, tasks and metadata")
        if (tasks := max(spec.num_tasks, spec.dedup_partitions)) > MAX_TASKS:
            raise InvalidInputError(f"{tasks} tasks are more than {MAX_TASKS}")
        requests = [request_of(emission) for emission in emissions]
        for request in requests:
            request.for_languages([ref.language for ref in spec.metadata])
        require_groupable(requests)
        frozen_when(spec)
        if spec.stability.announced_pairs:
            require_no_whole(requests, dedup=bool(spec.dedup_partitions))
        require_same(run_id, self._spec(run_id) or spec, spec)
        self._store.announce()
        now = time.time()
        if not register(self._store, run_id, spec, emissions, now, anew=anew):
            raise self.absence(run_id)
        self._redis.zadd(RUNS, {run_id: now}, nx=True)
        self._activate(run_id)
        self.advance(run_id)

    def advance(self, run_id: str) -> None:
        """Open every stage that is due. Idempotent, and safe to interrupt anywhere."""
        while self._open_due(run_id):  # a stage without tasks makes its successor due at once
            pass

    def _open_due(self, run_id: str) -> bool:
        """Open what is due now; say whether that was anything."""
        opened = [self._open(run_id, key, total) for key, total in self.due(run_id)]
        return any(opened)

    def claim(self, worker: str, stages: Sequence[int]) -> pb.Lease | None:
        """Hand out a task of an active run, oldest run first, or None."""
        for run_id in self.active_run_ids():
            with newer_left_out():
                if lease := self._claim_of(run_id, worker, stages):
                    return lease
        return None

    def _claim_of(self, run_id: str, worker: str, stages: Sequence[int]) -> pb.Lease | None:
        token = secrets.token_hex(16)
        limits = [self._backoff_ms, self._max_failures, self._second_opinion_ms]
        args = [worker, token, self._lease_ms, *limits, *stages]
        reply = self._store.call("claim", run_id, *args) or [b"", b""]
        task_id, trace, *expired = [value.decode() for value in reply]
        for number in range(0, len(expired), 2):
            note_expired(task_of(run_id, expired[number]), expired[number + 1])
        if not task_id:
            self._rest(run_id)
            return None
        task = task_of(run_id, task_id)
        return pb.Lease(
            task=task,
            token=token,
            ttl_seconds=self._lease_seconds,
            opening=self.opening(run_id, StageKey(task.stage, task.emission_key)),
            trace_parent=trace,
        )

    def look(self, run_id: str) -> pb.Run:
        """Return a run; put it on the lists again where Redis has lost it there.

        Raises:
            NotFoundError: the run is unknown.
        """
        run = self.run(run_id)
        if self._redis.zscore(RUNS, run_id) is None:
            self._redis.zadd(RUNS, {run_id: run.created_at}, nx=True)
        if run.state not in ENDED and self._redis.zscore(ACTIVE_RUNS, run_id) is None:
            self._activate(run_id)
        return run

    def _rest(self, run_id: str) -> None:
        """Nothing can be handed out: mend what a crash left closed, forget what has ended."""
        if self._spec(run_id) is None:  # Redis has lost it, or it is archived
            self._redis.zrem(ACTIVE_RUNS, run_id)
            if self._spec(run_id) is not None:  # someone registered it at the same moment
                self._activate(run_id)
            return
        if self._open_due(run_id) or self.state(run_id) not in ENDED:
            return
        self._redis.zrem(ACTIVE_RUNS, run_id)
        if self.state(run_id) not in ENDED:  # someone added to it at the same moment
            self._activate(run_id)

    def _activate(self, run_id: str) -> None:
        self._redis.zadd(ACTIVE_RUNS, {run_id: time.time()}, nx=True)

    def renew(self, lease: pb.Lease, done: int | None = None, total: int = 0) -> float:
        """Extend a lease; return its lifetime in seconds. Raises LeaseLostError."""
        progress = ["", ""] if done is None else [done, total]
        self._fenced("renew", lease, self._lease_ms, *progress)
        return self._lease_seconds

    def complete(self, lease: pb.Lease, result: pb.TaskResult) -> None:
        """End a task and open what becomes due. Idempotent. Raises LeaseLostError."""
        totals = totals_of(result.match) if result.HasField("match") else {}
        increments = [item for pair in totals.items() for item in pair]
        sealed = str(MATCH) if lease.task.stage == SEAL.stage else ""
        self._fenced("complete", lease, result.SerializeToString(), sealed, *increments)
        self.advance(lease.task.run_id)

    def fail(
        self, lease: pb.Lease, kind: pb.FailureKind.ValueType, message: str
    ) -> pb.TaskState.ValueType:
        """End a failed attempt; return where the task stands. Raises LeaseLostError."""
        reading, _ = reading_stages(self.spec(lease.task.run_id))
        limits = [self._backoff_ms, self._max_failures, self._second_opinion_ms, reading.stage]
        state = self._fenced("fail", lease, _KINDS.get(kind, "other"), message, *limits)
        self.advance(lease.task.run_id)
        return state_of(state)

    def release(self, lease: pb.Lease) -> None:
        """Take a task back without blame. Raises LeaseLostError."""
        self._fenced("release", lease)

    def cancel(self, run_id: str) -> None:
        """Stop handing out the run's tasks and take back those in hand. Raises NotFoundError."""
        self._turn(run_id, "cancelled")
        for task_id in self._redis.zrange(run_prefix(run_id) + "leases", 0, -1):
            self._store.call("resolve", run_id, task_id, "leased", "ready", "")

    def retry(self, run_id: str, *, accept_quarantine: bool, include_quarantined: bool) -> None:
        """Resolve what waits for an operator. Raises NotFoundError, InvalidInputError."""
        reading, sealing = reading_stages(self.spec(run_id), self.frozen_early(run_id))
        if include_quarantined and str(sealing) in self._opened(run_id):
            begun = _SEALING[sealing.stage]
            raise InvalidInputError(
                f"run {run_id}: {begun} has begun; what is quarantined is part of its result"
            )
        self._refuse_late_quarantine(run_id, reading, accept_quarantine)
        self._turn(run_id, "active")
        for key in self.tallies(run_id):
            accepted = accept_quarantine and key == reading
            self._resolve(run_id, key, accepted, include_quarantined, sealing)
        self._activate(run_id)
        self.advance(run_id)

    def archive(self, run_id: str, revision: str, ref: pb.ObjectRef) -> None:
        """Take a run that has ended out of Redis. Idempotent.

        Raises:
            NotFoundError: the run is unknown.
            InvalidInputError, ConflictError: as `archiving.archive`.
        """
        archive(self._store, self.run(run_id), revision, ref)

    def _turn(self, run_id: str, state: str) -> None:
        if not turn(self._store, run_id, state):
            raise self.absence(run_id)

    @property
    def _lease_seconds(self) -> float:
        return self._lease_ms / _MILLISECONDS

    def _fenced(self, script: str, lease: pb.Lease, *args: str | bytes | int) -> bytes:
        task = lease.task
        task_id = StageKey(task.stage, task.emission_key).task_id(task.index)
        answer = self._store.call(script, task.run_id, task_id, lease.token, *args)
        if not answer:
            raise LeaseLostError(
                f"the lease on task {task_id} of run {task.run_id} is void: it expired or the run "
                "was cancelled; nothing was changed"
            )
        return answer if isinstance(answer, bytes) else b""

    def _open(self, run_id: str, key: StageKey, total: int) -> bool:
        """Open a stage; False if Redis has meanwhile lost what made it due."""
        spec, early = self.spec(run_id), self.frozen_early(run_id)
        reading, _ = reading_stages(spec)
        read_before = str(reading) if key == MATCH != reading else ""
        emission = self.emissions(run_id).get(key.emission)
        before = " ".join(map(str, stages_before(key, spec, emission, early)))
        may_be_early = key == FREEZE and spec.freeze == pb.STABILITY_CONVERGED
        windows = rule_of(spec).windows if may_be_early else ""
        follows = str(MATCH) if early and key.stage == pb.STAGE_SCORE else ""
        stages = [read_before, before, windows, follows, str(SEAL)]
        scores = hand_out_scores(total, spec.order_seed)
        for first in range(0, max(total, 1), OPEN_CHUNK):
            chunk = scores[first : first + OPEN_CHUNK]
            if self._store.call("open_stage", run_id, str(key), total, first, *stages, *chunk) < 0:
                return False
        return True

    def _refuse_late_quarantine(self, run_id: str, reading: StageKey, accept: bool) -> None:
        tally = self.tallies(run_id).get(MATCH)
        if accept and reading != MATCH and tally and tally.blocked:
            raise InvalidInputError(
                f"run {run_id}: {tally.blocked} blocked match tasks cannot be given up, since "
                "other pairs were dropped as duplicates of theirs; mend the cause and retry, or "
                "start a run without these inputs"
            )

    def _resolve(
        self,
        run_id: str,
        key: StageKey,
        quarantine: bool,
        include_quarantined: bool,
        sealing: StageKey,
    ) -> None:
        moves = {pb.TASK_STATE_BLOCKED: ("blocked", "quarantined" if quarantine else "ready")}
        if include_quarantined:
            moves[pb.TASK_STATE_QUARANTINED] = ("quarantined", "ready")
        for records in self.tasks(run_id, key):
            for record in records:
                if record.state in moves:
                    task_id = key.task_id(record.task.index)
                    move = (*moves[record.state], str(sealing))
                    self._store.call("resolve", run_id, task_id, *move)
