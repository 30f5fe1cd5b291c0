"""The ledger: runs, their stages and tasks, and who works on what, as Redis holds it."""

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from clipcurate.errors import InvalidInputError, LeaseLostError, NotFoundError
from clipcurate.hashing import hash_bytes
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.settings import CounterSettings
from services.counter.stages import (
    StageKey,
    StageTally,
    due_stages,
    hand_out_scores,
    parse_task_id,
    run_state,
    stability,
)
from services.counter.store import RUNS, Store, run_prefix

OPEN_CHUNK = 2000
"""Tasks added to a queue per script call, which keeps it below 10 ms."""
LIST_CHUNK = 1000
PROBLEMS_SHOWN = 100
_MILLISECONDS = 1000
_KINDS = {
    pb.FAILURE_KIND_INPUT: "input",
    pb.FAILURE_KIND_OTHER: "other",
    pb.FAILURE_KIND_PERMANENT: "permanent",
}


def emission_key(spec: pb.EmissionSpec) -> str:
    """Return the hash of a request for a dataset and for the training on it."""
    return hash_bytes(spec.SerializeToString(deterministic=True))[:16]


class Ledger:
    """Every method is one or a few atomic steps in Redis; none keeps state of its own."""

    def __init__(self, store: Store, settings: CounterSettings) -> None:
        self._store = store
        self._redis = store.redis
        self._lease_ms = int(settings.lease_seconds * _MILLISECONDS)
        self._backoff_ms = int(settings.backoff_seconds * _MILLISECONDS)
        self._max_failures = settings.max_failures
        self._second_opinion_ms = int(settings.second_opinion_seconds * _MILLISECONDS)

    def create(self, run_id: str, spec: pb.RunSpec, emissions: Sequence[pb.EmissionSpec]) -> None:
        """Register a run, or add emissions to it. Idempotent.

        Raises:
            InvalidInputError: the request is incomplete.
        """
        if not run_id or not spec.num_tasks or not spec.metadata:
            raise InvalidInputError("a run needs an id, tasks and metadata")
        run = run_prefix(run_id) + "run"
        now = time.time()
        pipe = self._redis.pipeline(transaction=True)
        pipe.hsetnx(run, "spec", spec.SerializeToString())
        pipe.hsetnx(run, "created", repr(now))
        pipe.hset(run, "state", "active")
        for number, emission in enumerate(emissions):
            value = emission.SerializeToString(deterministic=True)
            key = emission_key(emission)
            pipe.hsetnx(run_prefix(run_id) + "emissions", key, value)
            pipe.zadd(run_prefix(run_id) + "order", {key: now + number * 1e-3}, nx=True)
        pipe.execute()
        self._redis.zadd(RUNS, {run_id: now}, nx=True)
        self.advance(run_id)

    def advance(self, run_id: str) -> None:
        """Open every stage that is due. Idempotent, and safe to interrupt anywhere."""
        while self._open_due(run_id):  # a stage without tasks makes its successor due at once
            pass

    def _open_due(self, run_id: str) -> bool:
        """Open what is due now; say whether that was anything."""
        spec = self.spec(run_id)
        opened = self._opened(run_id)
        tallies = self.tallies(run_id)
        due = due_stages(spec, self.emissions(run_id), tallies, self._num_parts(run_id, tallies))
        missing = [(key, total) for key, total in due if opened.get(str(key), -1) != total]
        for key, total in missing:
            self._open(run_id, key, total, spec.order_seed)
        return bool(missing)

    def claim(self, worker: str, stages: Sequence[int]) -> pb.Lease | None:
        """Hand out a task of an active run, oldest run first, or None."""
        for run_id in self.run_ids():
            token = secrets.token_hex(16)
            args = [worker, token, self._lease_ms, self._backoff_ms, self._max_failures, *stages]
            task_id = self._store.call("claim", run_id, *args)
            if task_id is not None:
                task = _task(run_id, task_id.decode())
                return pb.Lease(task=task, token=token, ttl_seconds=self._lease_seconds)
        return None

    def renew(self, lease: pb.Lease, done: int | None = None, total: int = 0) -> float:
        """Extend a lease; return its lifetime in seconds. Raises LeaseLostError."""
        progress = ["", ""] if done is None else [done, total]
        self._fenced("renew", lease, self._lease_ms, *progress)
        return self._lease_seconds

    def complete(self, lease: pb.Lease, result: pb.TaskResult) -> None:
        """End a task and open what becomes due. Idempotent. Raises LeaseLostError."""
        totals = _totals(result.match) if result.HasField("match") else {}
        increments = [item for pair in totals.items() for item in pair]
        self._fenced("complete", lease, result.SerializeToString(), *increments)
        self.advance(lease.task.run_id)

    def fail(
        self, lease: pb.Lease, kind: pb.FailureKind.ValueType, message: str
    ) -> pb.TaskState.ValueType:
        """End a failed attempt; return where the task stands. Raises LeaseLostError."""
        limits = [self._backoff_ms, self._max_failures, self._second_opinion_ms, pb.STAGE_MATCH]
        state = self._fenced("fail", lease, _KINDS.get(kind, "other"), message, *limits)
        self.advance(lease.task.run_id)
        return _state(state)

    def release(self, lease: pb.Lease) -> None:
        """Take a task back without blame. Raises LeaseLostError."""
        self._fenced("release", lease)

    def cancel(self, run_id: str) -> None:
        """Stop handing out the run's tasks. Raises NotFoundError."""
        self.spec(run_id)
        self._redis.hset(run_prefix(run_id) + "run", "state", "cancelled")

    def retry(self, run_id: str, *, accept_quarantine: bool, include_quarantined: bool) -> None:
        """Resolve what waits for an operator. Raises NotFoundError, InvalidInputError."""
        frozen = self.tallies(run_id).get(StageKey(pb.STAGE_FREEZE))
        if include_quarantined and frozen and frozen.finished:
            raise InvalidInputError(
                f"run {run_id}: the counts are frozen; its quarantine is part of the snapshot"
            )
        self._redis.hset(run_prefix(run_id) + "run", "state", "active")
        for key in self.tallies(run_id):
            self._resolve(run_id, key, accept_quarantine, include_quarantined)
        self.advance(run_id)

    def run_ids(self) -> list[str]:
        """Return all runs, oldest first."""
        return [run_id.decode() for run_id in self._redis.zrange(RUNS, 0, -1)]

    def spec(self, run_id: str) -> pb.RunSpec:
        """Return a run's spec. Raises NotFoundError."""
        value = self._redis.hget(run_prefix(run_id) + "run", "spec")
        if value is None:
            raise NotFoundError(
                f"run {run_id!r} is unknown; `clipcurate runs` lists the known ones"
            )
        return pb.RunSpec.FromString(value)

    def emissions(self, run_id: str) -> dict[str, pb.EmissionSpec]:
        """Return a run's emissions by key, in order of request."""
        prefix = run_prefix(run_id)
        values = self._redis.hgetall(prefix + "emissions")
        order = self._redis.zrange(prefix + "order", 0, -1)
        return {key.decode(): pb.EmissionSpec.FromString(values[key]) for key in order}

    def tallies(self, run_id: str) -> dict[StageKey, StageTally]:
        """Return the tallies of the completely opened stages, in order of emission and stage."""
        stages = self._redis.hgetall(run_prefix(run_id) + "stages")
        keys = [StageKey.parse(name.decode()) for name in stages if not name.endswith(b"/opened")]
        found = {}
        for key in sorted(keys):
            total = int(stages[str(key).encode()])
            if int(stages[f"{key}/opened".encode()]) == total:
                tally = self._redis.hgetall(f"{run_prefix(run_id)}tally:{key}")
                found[key] = StageTally(total, **{k.decode(): int(v) for k, v in tally.items()})
        return found

    def run(self, run_id: str) -> pb.Run:
        """Return a run with its progress. Raises NotFoundError."""
        prefix = run_prefix(run_id)
        spec, emissions, tallies = self.spec(run_id), self.emissions(run_id), self.tallies(run_id)
        created, state = self._redis.hmget(prefix + "run", "created", "state")
        totals = {k.decode(): int(v) for k, v in self._redis.hgetall(prefix + "totals").items()}
        return pb.Run(
            run_id=run_id,
            spec=spec,
            state=run_state(state == b"cancelled", emissions, tallies),
            stability=stability(tallies),
            pairs=totals.get("pairs", 0),
            hits=totals.get("hits", 0),
            stages=[self._progress(run_id, key, tally) for key, tally in tallies.items()],
            emissions=[self.emission(run_id, key, spec) for key, spec in emissions.items()],
            problems=self._problems(run_id, tallies),
            created_at=float(created or 0),
        )

    def emission(self, run_id: str, key: str, spec: pb.EmissionSpec) -> pb.Emission:
        """Return an emission with the results that it has so far."""
        results = {
            stage: self._result(run_id, StageKey(stage, key))
            for stage in (pb.STAGE_PLAN, pb.STAGE_PUBLISH, pb.STAGE_TRAIN)
        }
        emission = pb.Emission(key=key, spec=spec)
        if plan := results[pb.STAGE_PLAN]:
            emission.plan.CopyFrom(plan.plan)
        if published := results[pb.STAGE_PUBLISH]:
            emission.published.CopyFrom(published.publish)
        if trained := results[pb.STAGE_TRAIN]:
            emission.trained.CopyFrom(trained.train)
        return emission

    def tasks(self, run_id: str, key: StageKey) -> Iterator[list[pb.TaskRecord]]:
        """Yield a stage's tasks in index order, in lists of up to 1,000."""
        total = int(self._redis.hget(run_prefix(run_id) + "stages", str(key)) or 0)
        for first in range(0, total, LIST_CHUNK):
            numbers = range(first, min(first + LIST_CHUNK, total))
            yield self._records(run_id, [key.task_id(number) for number in numbers])

    def counted_tasks(self, run_id: str) -> tuple[npt.NDArray[np.int64], dict[str, int]]:
        """Return the indexes of the counted match tasks and their hits per language."""
        counted: list[int] = []
        hits: dict[str, int] = {}
        for records in self.tasks(run_id, StageKey(pb.STAGE_MATCH)):
            for record in records:
                if record.state == pb.TASK_STATE_DONE:
                    counted.append(record.task.index)
                    for language, number in record.result.match.hits.items():
                        hits[language] = hits.get(language, 0) + number
        return np.array(counted, np.int64), hits

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

    def _opened(self, run_id: str) -> dict[str, int]:
        stages = self._redis.hgetall(run_prefix(run_id) + "stages")
        return {
            name.decode().removesuffix("/opened"): int(value)
            for name, value in stages.items()
            if name.endswith(b"/opened")
        }

    def _open(self, run_id: str, key: StageKey, total: int, order_seed: int) -> None:
        scores = hand_out_scores(total, order_seed)
        for first in range(0, max(total, 1), OPEN_CHUNK):
            chunk = scores[first : first + OPEN_CHUNK]
            self._store.call("open_stage", run_id, str(key), total, first, *chunk)

    def _num_parts(self, run_id: str, tallies: Mapping[StageKey, StageTally]) -> dict[str, int]:
        parts = {}
        for key in tallies:
            if key.stage == pb.STAGE_PLAN and (result := self._result(run_id, key)):
                parts[key.emission] = result.plan.num_parts
        return parts

    def _result(self, run_id: str, key: StageKey) -> pb.TaskResult | None:
        value = self._redis.hget(f"{run_prefix(run_id)}task:{key.task_id(0)}", "result")
        return None if value is None else pb.TaskResult.FromString(value)

    def _records(self, run_id: str, task_ids: Sequence[str]) -> list[pb.TaskRecord]:
        pipe = self._redis.pipeline(transaction=False)
        for task_id in task_ids:
            pipe.hgetall(f"{run_prefix(run_id)}task:{task_id}")
        return [
            _record(_task(run_id, task_id), fields)
            for task_id, fields in zip(task_ids, pipe.execute(), strict=True)
        ]

    def _progress(self, run_id: str, key: StageKey, tally: StageTally) -> pb.StageProgress:
        done, total = self._units(run_id, key)
        if key.stage == pb.STAGE_MATCH:
            done += int(self._redis.hget(run_prefix(run_id) + "totals", "pairs") or 0)
        return pb.StageProgress(
            stage=key.stage,
            emission_key=key.emission,
            total=tally.total,
            ready=tally.ready,
            leased=tally.leased,
            done=tally.done,
            blocked=tally.blocked,
            quarantined=tally.quarantined,
            units_done=done,
            units_total=total,
        )

    def _units(self, run_id: str, key: StageKey) -> tuple[int, int]:
        """Sum the units of the stage's tasks in flight."""
        prefix = run_prefix(run_id)
        leased = [name.decode() for name in self._redis.zrange(prefix + "leases", 0, -1)]
        pipe = self._redis.pipeline(transaction=False)
        for task_id in leased:
            if parse_task_id(task_id)[0] == key:
                pipe.hmget(f"{prefix}task:{task_id}", "units_done", "units_total")
        values = pipe.execute()
        return sum(int(v[0] or 0) for v in values), sum(int(v[1] or 0) for v in values)

    def _problems(self, run_id: str, tallies: Mapping[StageKey, StageTally]) -> list[pb.TaskRecord]:
        waiting = (pb.TASK_STATE_BLOCKED, pb.TASK_STATE_QUARANTINED)
        found: list[pb.TaskRecord] = []
        for key, tally in tallies.items():
            if tally.blocked or tally.quarantined:
                for records in self.tasks(run_id, key):
                    found += [record for record in records if record.state in waiting]
        return found[:PROBLEMS_SHOWN]

    def _resolve(
        self, run_id: str, key: StageKey, accept_quarantine: bool, include_quarantined: bool
    ) -> None:
        quarantine = accept_quarantine and key.stage == pb.STAGE_MATCH
        moves = {pb.TASK_STATE_BLOCKED: ("blocked", "quarantined" if quarantine else "ready")}
        if include_quarantined:
            moves[pb.TASK_STATE_QUARANTINED] = ("quarantined", "ready")
        for records in self.tasks(run_id, key):
            for record in records:
                if record.state in moves:
                    task_id = key.task_id(record.task.index)
                    self._store.call("resolve", run_id, task_id, *moves[record.state])


def _task(run_id: str, task_id: str) -> pb.Task:
    key, index = parse_task_id(task_id)
    return pb.Task(run_id=run_id, stage=key.stage, emission_key=key.emission, index=index)


def _record(task: pb.Task, fields: Mapping[bytes, bytes]) -> pb.TaskRecord:
    record = pb.TaskRecord(
        task=task,
        state=_state(fields.get(b"state", b"ready")),
        worker=fields.get(b"worker", b"").decode(),
        failures=int(fields.get(b"failures", 0)),
        error=fields.get(b"error", b"").decode(errors="replace"),
    )
    if b"result" in fields:
        record.result.ParseFromString(fields[b"result"])
    return record


def _state(name: bytes) -> pb.TaskState.ValueType:
    return pb.TaskState.Value(f"TASK_STATE_{name.decode().upper()}")


def _totals(result: pb.MatchResult) -> dict[str, int]:
    return {"pairs": result.pairs, "hits": sum(result.hits.values())}
