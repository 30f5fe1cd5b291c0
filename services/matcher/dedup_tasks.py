"""Finding duplicates: the tasks that read ids (KEYS) and compare them (DEDUP)."""

from clipcurate import storage
from clipcurate.datasets.dedup import Dedup, Duplicates
from clipcurate.datasets.dedup_files import publish_drops, publish_keys, read_duplicates
from clipcurate.datasets.run_plan import RunPlan, load_plan
from clipcurate.errors import ConflictError, InvalidInputError
from clipcurate.rpc import logs
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.finished import FinishedTasks
from clipcurate.rpc.references import reference
from clipcurate.rpc.v1 import ledger_pb2 as pb
from clipcurate.rpc.worker import Assignment


class DedupTasks:
    """Handles KEYS and DEDUP tasks, and tells MATCH tasks what was found."""

    def __init__(self, ledger: LedgerClient) -> None:
        self._ledger = ledger
        self._finished = FinishedTasks(ledger)

    def keys(self, assignment: Assignment) -> pb.TaskResult:
        """Store the ids of one match task."""
        plan, dedup = _plan(assignment)
        logs.note(shard=plan.first_shard(assignment.task.index))
        folder = _folder(assignment, "keys")
        stored = publish_keys(plan, dedup, assignment.task.index, folder, assignment.check)
        return pb.TaskResult(keys=pb.KeysResult(keys=reference(folder, stored)))

    def drops(self, assignment: Assignment) -> pb.TaskResult:
        """Store the duplicates of one partition."""
        records = self._finished.before(assignment.lease, pb.STAGE_KEYS)
        keys = [_result(r).keys.keys.url or None for r in records]
        folder = _folder(assignment, "drops")
        index = assignment.task.index
        stored = publish_drops(keys, index, folder, lambda _: assignment.check())
        return pb.TaskResult(dedup=pb.DedupResult(drops=reference(folder, stored)))

    def duplicates(self, assignment: Assignment) -> Duplicates | None:
        """Return the duplicates of a match task; None in a run that keeps them."""
        if not assignment.run.spec.dedup_partitions:
            return None
        _, dedup = _plan(assignment)
        run_id, index = assignment.run.run_id, assignment.task.index
        keys = _result(self._ledger.get_task(run_id, pb.STAGE_KEYS, index)).keys.keys.url
        records = self._finished.before(assignment.lease, pb.STAGE_DEDUP)
        return read_duplicates(dedup, index, keys, [_result(r).dedup.drops.url for r in records])


def _plan(assignment: Assignment) -> tuple[RunPlan, Dedup]:
    ref = assignment.run.spec.plan
    plan = load_plan(ref.url, ref.hash)
    if plan.dedup is None or plan.dedup.partitions != assignment.run.spec.dedup_partitions:
        raise InvalidInputError(f"{ref.url}: the plan and the run differ in dedup; submit it again")
    return plan, plan.dedup


def _result(record: pb.TaskRecord) -> pb.TaskResult:
    """Return a finished task's result, an empty one if it is quarantined."""
    if record.state not in (pb.TASK_STATE_DONE, pb.TASK_STATE_QUARANTINED):
        raise ConflictError(f"run {record.task.run_id}: tasks that find duplicates are open again")
    return record.result


def _folder(assignment: Assignment, name: str) -> str:
    return storage.join(assignment.run.spec.output_url, "runs", assignment.run.run_id, name)
