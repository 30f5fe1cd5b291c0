"""The results of earlier stages, listed once per process and stage instead of once per task."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.v1 import ledger_pb2 as pb

KEPT = 4
"""Lists in memory: a worker needs at most three of one run at a time."""
_FINISHED = (pb.TASK_STATE_DONE, pb.TASK_STATE_QUARANTINED)


class _Which(NamedTuple):
    run_id: str
    for_stage: int
    for_emission: str
    opening: str
    stage: int
    emission: str


class FinishedTasks:
    """Lists of tasks, kept where all of them are finished.

    They stay so while the stage that follows them is the same opening (see Lease in
    `ledger.proto`): a Redis that came back older than that opens the stage again.
    """

    def __init__(self, ledger: LedgerClient) -> None:
        self._ledger = ledger
        self._lists: OrderedDict[_Which, Sequence[pb.TaskRecord]] = OrderedDict()

    def before(
        self, lease: pb.Lease, stage: pb.Stage.ValueType, emission: str = ""
    ) -> Sequence[pb.TaskRecord]:
        """Return the tasks, in order, of a stage that comes before the leased task's.

        Args:
            lease: of the task in hand.
            stage: the earlier stage.
            emission: the emission's key, where the earlier stage is one of an emission.
        """
        task = lease.task
        which = _Which(task.run_id, task.stage, task.emission_key, lease.opening, stage, emission)
        if which in self._lists:
            self._lists.move_to_end(which)
            return self._lists[which]
        records = tuple(self._ledger.list_tasks(task.run_id, stage, emission))
        if all(record.state in _FINISHED for record in records):
            self._lists[which] = records
            if len(self._lists) > KEPT:
                self._lists.popitem(last=False)
        return records
