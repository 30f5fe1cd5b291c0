"""Freezing a run's counts, and sealing a run whose counts were frozen while matching went on."""

import logging
from collections.abc import Sequence

from clipcurate import storage
from clipcurate.balancing.stability import announced_pairs
from clipcurate.datasets import snapshot
from clipcurate.datasets.recount import recount
from clipcurate.datasets.run_record import PREFIX, record_name
from clipcurate.errors import ConflictError
from clipcurate.rpc.clients import CounterClient, LedgerClient, hash_of_tasks
from clipcurate.rpc.references import reference
from clipcurate.rpc.v1 import ledger_pb2 as pb
from clipcurate.rpc.worker import Assignment
from services.sampler.run_files import RunFiles, Watched

ATTEMPTS = 10
"""How often a moment is looked for at which no task is half counted."""

log = logging.getLogger(__name__)


class Freezing:
    """Handles FREEZE and SEAL."""

    def __init__(self, ledger: LedgerClient, counter: CounterClient) -> None:
        self._ledger = ledger
        self._counter = counter

    def freeze(self, assignment: Assignment, files: RunFiles) -> pb.TaskResult:
        """Freeze the counts; where they contradict the ledger, the match indexes decide."""
        if assignment.run.frozen_early:
            return self._freeze_converged(assignment)
        files.require_finished()
        live = self._counter.get_counts(files.run.run_id)
        counts, consistent = live.counts, live.consistent
        if not consistent:
            log.error("counts contradict the ledger; recounting")
            counts = recount(files.sizes, Watched(files.indexes(), assignment))
            self._replace(assignment.lease, files, counts)
        projection = files.projection(counts)
        acted_on = projection.counts if projection else counts
        about = projection.identity() if projection else None
        name = snapshot.snapshot_id(files.run.run_id, files.quarantined_inputs(), acted_on, about)
        result = _publish(files, name, acted_on, projection)
        result.recounted = not consistent
        result.record.CopyFrom(_publish_record(files, result, None))
        return pb.TaskResult(freeze=result)

    def seal(self, assignment: Assignment, files: RunFiles) -> pb.TaskResult:
        """Record what was counted in the end, and thereby what is quarantined."""
        files.require_finished()
        (frozen,) = self._ledger.list_tasks(files.run.run_id, pb.STAGE_FREEZE)
        record = _publish_record(files, frozen.result.freeze, files.quarantined_inputs())
        return pb.TaskResult(seal=pb.SealResult(record=record))

    def _freeze_converged(self, assignment: Assignment) -> pb.TaskResult:
        """Freeze the counts of the tasks counted by now, projected to the whole pool's pairs."""
        files, live = self._at_rest(assignment.run)
        if live is None:
            log.warning("counts and ledger differ at every look; recounting")
        raw = live or recount(files.sizes, Watched(files.indexes(), assignment))
        announced = _announced(files)
        projection = snapshot.Projection(raw, files.seen, announced, tuple(files.counted()))
        name = snapshot.snapshot_id(files.run.run_id, [], projection.counts, projection.identity())
        result = _publish(files, name, projection.counts, projection)
        result.recounted = live is None
        result.convergence.CopyFrom(self._convergence(files, projection))
        return pb.TaskResult(freeze=result)

    def _at_rest(self, run: pb.Run) -> tuple[RunFiles, snapshot.Counts | None]:
        """Return the match tasks, and the counts when exactly the counted tasks were in them.

        Without counts where at every look some open task was half counted, or Redis has lost some.
        """
        for _ in range(ATTEMPTS):
            files = self._look(run)
            live = self._counter.get_counts(run.run_id)
            if live.consistent and live.counted_hash == hash_of_tasks(files.counted()):
                return files, live.counts
        return files, None

    def _look(self, run: pb.Run) -> RunFiles:
        """Return the run's files with its match tasks as they are now."""
        records = tuple(self._ledger.list_tasks(run.run_id, pb.STAGE_MATCH))
        return RunFiles(run, lambda: records)

    def _convergence(self, files: RunFiles, projection: snapshot.Projection) -> pb.Convergence:
        """Say how stable the counts were. Windows do not go on once FREEZE is open."""
        found = self._ledger.get_run(files.run.run_id).stability_progress
        return pb.Convergence(
            tasks=len(files.counted()),
            pairs_seen=projection.seen,
            pairs_announced=projection.announced,
            drift=found.drifts[-1],
            windows=found.windows_below,
            epsilon=found.epsilon,
        )

    def _replace(self, lease: pb.Lease, files: RunFiles, counts: snapshot.Counts) -> None:
        run_id = files.run.run_id
        if self._counter.replace_counts(run_id, counts, files.counted(), lease):
            raise ConflictError(f"run {run_id}: its counts changed while they were replaced")


def _announced(files: RunFiles) -> int:
    """Return how many pairs the pool has: as announced, else as the counted tasks tell."""
    spec = files.run.spec
    announced = spec.stability.announced_pairs
    return announced_pairs(files.seen, files.counted_rows, spec.planned_rows, announced)


def _publish(
    files: RunFiles, name: str, counts: snapshot.Counts, projection: snapshot.Projection | None
) -> pb.FreezeResult:
    """Store a snapshot."""
    folder, content = files.folder(), snapshot.to_bytes(counts, projection)
    stored = storage.publish_bytes(content, folder, f"counts-{name}", ".parquet")
    return pb.FreezeResult(snapshot_id=name, snapshot=reference(folder, stored))


def _publish_record(
    files: RunFiles, frozen: pb.FreezeResult, quarantined: Sequence[object] | None
) -> pb.ObjectRef:
    """Store the record of a snapshot, under the name that `record_name` gives."""
    record = files.record(frozen.snapshot_id, files.relative(frozen.snapshot))
    stem = f"{PREFIX}-{record_name(frozen.snapshot_id, quarantined)}"
    stored = storage.publish_bytes(record.to_bytes(), files.folder(), stem, ".json")
    return reference(files.folder(), stored)
