"""What Redis holds of runs, as the messages that clients see. Nothing here changes anything."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from clipcurate.errors import ClipcurateError, NotFoundError
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.archiving import archived_error
from services.counter.records import UNMATCHED, record_of, task_of
from services.counter.stages import (
    FREEZE,
    MATCH,
    StageKey,
    StageTally,
    due_stages,
    is_finished,
    parse_task_id,
    run_state,
    stability,
)
from services.counter.store import ACTIVE_RUNS, RUNS, Store, run_prefix
from services.counter.windows import WindowStore, rule_of, stability_progress

LIST_CHUNK = 1000
PROBLEMS_SHOWN = 100


class RunReader:
    """Runs, emissions, stages and tasks as they stand now."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._windows = WindowStore(store)

    @property
    def _redis(self) -> Any:
        return self._store.redis

    def run_ids(self) -> list[str]:
        """Return all runs that Redis still holds, oldest first."""
        listed = [run_id.decode() for run_id in self._redis.zrange(RUNS, 0, -1)]
        return [run for run in listed if self._redis.exists(run_prefix(run) + "run")]

    def active_run_ids(self) -> list[str]:
        """Return the runs that may have tasks to hand out, oldest first."""
        return [run_id.decode() for run_id in self._redis.zrange(ACTIVE_RUNS, 0, -1)]

    def state(self, run_id: str) -> pb.RunState.ValueType:
        """Say where a run stands. Raises NotFoundError; ConflictError if it is archived."""
        return self._state(run_id, self.spec(run_id), self.emissions(run_id), self.tallies(run_id))

    def due(self, run_id: str) -> list[tuple[StageKey, int]]:
        """Return the stages that are due but not open yet, with their numbers of tasks."""
        tallies, opened = self.tallies(run_id), self._opened(run_id)
        due = self._due(run_id, self.spec(run_id), self.emissions(run_id), tallies)
        return [(key, total) for key, total in due if opened.get(str(key), -1) != total]

    def _due(
        self,
        run_id: str,
        spec: pb.RunSpec,
        emissions: Mapping[str, pb.EmissionSpec],
        tallies: Mapping[StageKey, StageTally],
    ) -> list[tuple[StageKey, int]]:
        parts, early = self._num_parts(run_id, tallies), self._early(run_id, spec, tallies)
        return list(due_stages(spec, emissions, tallies, parts, early))

    def _state(
        self,
        run_id: str,
        spec: pb.RunSpec,
        emissions: Mapping[str, pb.EmissionSpec],
        tallies: Mapping[StageKey, StageTally],
    ) -> pb.RunState.ValueType:
        cancelled = self._redis.hget(run_prefix(run_id) + "run", "state") == b"cancelled"
        due = [key for key, _ in self._due(run_id, spec, emissions, tallies)]
        return run_state(cancelled, emissions, tallies, due, self.frozen_early(run_id))

    def frozen_early(self, run_id: str) -> bool:
        """Say whether FREEZE opened before MATCH was finished, since counts were converged."""
        return bool(self._redis.hexists(run_prefix(run_id) + "run", "early"))

    def _early(self, run_id: str, spec: pb.RunSpec, tallies: Mapping[StageKey, StageTally]) -> bool:
        """Say whether FREEZE opened before MATCH was finished, or is to."""
        if FREEZE in tallies or spec.freeze != pb.STABILITY_CONVERGED:
            return self.frozen_early(run_id)
        converged = self._windows.state(run_id).windows.converged(rule_of(spec))
        return converged and not is_finished(tallies, MATCH)

    def spec(self, run_id: str) -> pb.RunSpec:
        """Return a run's spec. Raises NotFoundError; ConflictError if it is archived."""
        spec = self._spec(run_id)
        if spec is None:
            raise self.absence(run_id)
        return spec

    def _spec(self, run_id: str) -> pb.RunSpec | None:
        value, schema = self._redis.hmget(run_prefix(run_id) + "run", "spec", "schema")
        self._store.require_known(schema)  # here, since every reading of a run begins with this
        return None if value is None else pb.RunSpec.FromString(value)

    def marker(self, run_id: str) -> pb.Run | None:
        """Return what Redis keeps of an archived run; None if the run is not archived."""
        value = self._redis.hget(run_prefix(run_id) + "run", "marker")
        return None if value is None else pb.Run.FromString(value)

    def absence(self, run_id: str) -> ClipcurateError:
        """Return the error that says why a run is not here."""
        if marker := self.marker(run_id):
            return archived_error(marker)
        return NotFoundError(f"run {run_id!r} is unknown; `clipcurate runs` lists the known ones")

    def emissions(self, run_id: str) -> dict[str, pb.EmissionSpec]:
        """Return a run's emissions by key, in order of request."""
        prefix = run_prefix(run_id)
        with self._store.node(run_id) as node:
            pipe = node.pipeline(transaction=True)  # they go together when the run is archived
            pipe.zrange(prefix + "order", 0, -1)
            pipe.hgetall(prefix + "emissions")
            order, values = pipe.execute()
        return {key.decode(): pb.EmissionSpec.FromString(values[key]) for key in order}

    def tallies(self, run_id: str) -> dict[StageKey, StageTally]:
        """Return the tallies of the completely opened stages, in order of emission and stage."""
        stages = self._redis.hgetall(run_prefix(run_id) + "stages")
        keys = [StageKey.parse(name.decode()) for name in stages if not name.endswith(b"/opened")]
        found = {}
        for key in sorted(keys, key=lambda key: key.place):
            total = int(stages[str(key).encode()])
            if int(stages[f"{key}/opened".encode()]) == total:
                tally = self._redis.hgetall(f"{run_prefix(run_id)}tally:{key}")
                found[key] = StageTally(total, **{k.decode(): int(v) for k, v in tally.items()})
        return found

    def run(self, run_id: str) -> pb.Run:
        """Return a run with its progress, or what is left of an archived one.

        Raises:
            NotFoundError: the run is unknown.
        """
        spec = self._spec(run_id)
        run = None if spec is None else self._whole(run_id, spec)
        if marker := self.marker(run_id):  # also if it was archived while it was read
            return marker
        if run is None:
            raise self.absence(run_id)
        return run

    def _whole(self, run_id: str, spec: pb.RunSpec) -> pb.Run:
        # The revision first: a run that changes meanwhile has an older one than its parts.
        created, revision = self._redis.hmget(run_prefix(run_id) + "run", "created", "revision")
        emissions, tallies = self.emissions(run_id), self.tallies(run_id)
        totals, window = self.totals(run_id), self._windows.state(run_id)
        frozen = self._result(run_id, FREEZE)
        return pb.Run(
            run_id=run_id,
            spec=spec,
            state=self._state(run_id, spec, emissions, tallies),
            stability=stability(tallies, converged=window.windows.converged(rule_of(spec))),
            stability_progress=stability_progress(spec, totals, window),
            pairs=totals.get("pairs", 0),
            hits=totals.get("hits", 0),
            stages=[self._progress(run_id, key, tally) for key, tally in tallies.items()],
            emissions=[self.emission(run_id, key, spec) for key, spec in emissions.items()],
            problems=self._problems(run_id, tallies),
            created_at=float(created or 0),
            revision=(revision or b"").decode(),
            frozen_early=self.frozen_early(run_id),
            frozen=frozen.freeze if frozen else None,
            unmatched_by_language={
                name.removeprefix(UNMATCHED): pairs
                for name, pairs in totals.items()
                if name.startswith(UNMATCHED)
            },
        )

    def totals(self, run_id: str) -> dict[str, int]:
        """Return what the results of a run's match tasks add up to, by name."""
        found = self._redis.hgetall(run_prefix(run_id) + "totals")
        return {name.decode(): int(value) for name, value in found.items()}

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

    def task(self, run_id: str, key: StageKey, index: int) -> pb.TaskRecord:
        """Return one task."""
        return self._records(run_id, [key.task_id(index)])[0]

    def tasks(self, run_id: str, key: StageKey) -> Iterator[list[pb.TaskRecord]]:
        """Yield a stage's tasks in index order, in lists of up to 1,000."""
        total = int(self._redis.hget(run_prefix(run_id) + "stages", str(key)) or 0)
        for first in range(0, total, LIST_CHUNK):
            numbers = range(first, min(first + LIST_CHUNK, total))
            yield self._records(run_id, [key.task_id(number) for number in numbers])

    def opening(self, run_id: str, key: StageKey) -> str:
        """Return when a stage was opened, in Redis's time; empty if it is not open."""
        return (self._redis.hget(run_prefix(run_id) + "openings", str(key)) or b"").decode()

    def counted_tasks(self, run_id: str) -> tuple[npt.NDArray[np.int64], dict[str, int]]:
        """Return the indexes of the counted match tasks and their hits per language."""
        counted: list[int] = []
        hits: dict[str, int] = {}
        for records in self.tasks(run_id, MATCH):
            for record in records:
                if record.state == pb.TASK_STATE_DONE:
                    counted.append(record.task.index)
                    for language, number in record.result.match.hits.items():
                        hits[language] = hits.get(language, 0) + number
        return np.array(counted, np.int64), hits

    def _opened(self, run_id: str) -> dict[str, int]:
        stages = self._redis.hgetall(run_prefix(run_id) + "stages")
        return {
            name.decode().removesuffix("/opened"): int(value)
            for name, value in stages.items()
            if name.endswith(b"/opened")
        }

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
        with self._store.node(run_id) as node:
            pipe = node.pipeline(transaction=False)
            for task_id in task_ids:
                pipe.hgetall(f"{run_prefix(run_id)}task:{task_id}")
            found = pipe.execute()
        return [
            record_of(task_of(run_id, task_id), fields)
            for task_id, fields in zip(task_ids, found, strict=True)
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
            waiting=tally.waiting,
            units_done=done,
            units_total=total,
        )

    def _units(self, run_id: str, key: StageKey) -> tuple[int, int]:
        """Sum the units of the stage's tasks in flight."""
        prefix = run_prefix(run_id)
        leased = [name.decode() for name in self._redis.zrange(prefix + "leases", 0, -1)]
        with self._store.node(run_id) as node:
            pipe = node.pipeline(transaction=False)
            for task_id in leased:
                if parse_task_id(task_id)[0] == key:
                    pipe.hmget(f"{prefix}task:{task_id}", "units_done", "units_total")
            values = pipe.execute()
        return sum(int(v[0] or 0) for v in values), sum(int(v[1] or 0) for v in values)

    def _problems(self, run_id: str, tallies: Mapping[StageKey, StageTally]) -> list[pb.TaskRecord]:
        """Return the first tasks that wait for an operator, by stage and number."""
        found: list[pb.TaskRecord] = []
        for key, tally in tallies.items():
            left = PROBLEMS_SHOWN - len(found)
            if left and (tally.blocked or tally.quarantined):
                problems = f"{run_prefix(run_id)}problems:{key}"
                task_ids = [name.decode() for name in self._redis.zrange(problems, 0, left - 1)]
                found += self._records(run_id, task_ids)
        return found
