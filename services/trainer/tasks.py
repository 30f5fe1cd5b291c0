"""A TRAIN task: the training that an emission asks for, on its published dataset."""

import json
from collections.abc import Callable
from concurrent.futures import wait

from clipcurate.errors import TrainingError
from clipcurate.rpc.v1 import ledger_pb2
from clipcurate.rpc.worker import Assignment
from clipcurate.storage import join
from services.trainer.jobs import Jobs
from services.trainer.service import request_of

CHECK_SECONDS = 0.2
"""How soon a lost lease or a signal is noticed between steps."""


class TrainTasks:
    """Handles TRAIN tasks.

    Args:
        jobs: the trainings of this service.
        outlives: whether they go on without it; then another trainer finds them by the task.
        is_over: whether a run, by its id, wants no training any more.
    """

    def __init__(self, jobs: Jobs, outlives: bool, is_over: Callable[[str], bool]) -> None:
        self._jobs = jobs
        self._outlives = outlives
        self._is_over = is_over

    def handle(self, assignment: Assignment) -> ledger_pb2.TaskResult:
        """Train to the end; a checkpoint is saved before a lost lease or a signal ends the task.

        A training that outlives this service is only stopped where its run is over.
        """
        emission = assignment.emission
        request = request_of(emission.plan.dataset_url, emission.spec.train)
        job = self._jobs.start(request, join(assignment.run.spec.output_url, "training"))
        assignment.units_total = job.total_pairs
        while not job.future.done():
            wait([job.future], timeout=CHECK_SECONDS)
            assignment.units_done = job.seen_pairs
            if assignment.lost.is_set() or assignment.stopping.is_set():
                if not self._outlives or self._is_over(assignment.task.run_id):
                    job.stop()
                assignment.check()
        summary = job.outcome
        if not summary["finished"]:
            raise TrainingError(
                f"training {job.training_id} was stopped by a client; cancel the run to end it"
            )
        result = ledger_pb2.TrainResult(
            output_url=job.what.output_url, summary_json=json.dumps(summary, ensure_ascii=False)
        )
        return ledger_pb2.TaskResult(train=result)
