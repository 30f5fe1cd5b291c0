"""A matcher's tasks: match texts and count the hits; before that, find duplicates if asked to."""

import numpy as np

from clipcurate.datasets.dedup import Duplicates
from clipcurate.datasets.match_index import SUFFIX, MatchIndex, Status, index_batches
from clipcurate.datasets.run_plan import RunPlan, load_plan
from clipcurate.languages import Router
from clipcurate.rpc import logs
from clipcurate.rpc.clients import CounterClient, LedgerClient
from clipcurate.rpc.references import reference
from clipcurate.rpc.v1 import ledger_pb2
from clipcurate.rpc.worker import Assignment, retry_unavailable
from clipcurate.storage import join, publish_bytes
from services.matcher.dedup_tasks import DedupTasks
from services.matcher.library import Library
from services.matcher.metrics import CountingRouter

STAGES = [ledger_pb2.STAGE_MATCH, ledger_pb2.STAGE_DEDUP, ledger_pb2.STAGE_KEYS]
"""Late stages first: what is nearly finished is finished before more is begun."""


class MatcherTasks:
    """Handles the matcher's stages."""

    def __init__(self, library: Library, ledger: LedgerClient, counter: CounterClient) -> None:
        self._library = library
        self._counter = counter
        self._dedup = DedupTasks(ledger)

    def handle(self, assignment: Assignment) -> ledger_pb2.TaskResult | None:
        """Do one task; return its result, but for MATCH, which is completed by being counted."""
        if assignment.task.stage == ledger_pb2.STAGE_KEYS:
            return self._dedup.keys(assignment)
        if assignment.task.stage == ledger_pb2.STAGE_DEDUP:
            return self._dedup.drops(assignment)
        self._match(assignment)
        return None

    def _match(self, assignment: Assignment) -> None:
        spec = assignment.run.spec
        plan = load_plan(spec.plan.url, spec.plan.hash)
        logs.note(shard=plan.first_shard(assignment.task.index))
        run_folder = join(spec.output_url, "runs", assignment.run.run_id)
        router = CountingRouter.of(plan.languages, run_folder, self._library.for_run(spec))
        index = match_task(plan, assignment, router, self._dedup.duplicates(assignment))
        folder = join(run_folder, "index")
        stem = f"{assignment.task.index:06d}"
        stored = publish_bytes(index.to_bytes(), folder, stem, SUFFIX)
        result = summarize(index)
        result.index.CopyFrom(reference(folder, stored))
        result.planned_rows = plan.planned_rows(assignment.task.index)
        counts = index.sparse_counts()
        retry_unavailable(
            lambda: self._counter.count_task(assignment.lease, result, counts), assignment
        )


def match_task(
    plan: RunPlan, assignment: Assignment, router: Router, duplicates: Duplicates | None
) -> MatchIndex:
    """Read and match the pairs of a task, in order, without its duplicates."""
    parts = [MatchIndex.empty()]
    for piece in plan.tasks[assignment.task.index].slices:
        for part in index_batches(plan, piece, router, duplicates):
            parts.append(part)
            assignment.check(len(part))
    return MatchIndex.concatenate(parts)


def summarize(index: MatchIndex) -> ledger_pb2.MatchResult:
    """Return what the ledger keeps of an index, but for its place in storage."""
    statuses = np.bincount(index.status, minlength=len(Status))
    return ledger_pb2.MatchResult(
        pairs=len(index),
        matched=int(statuses[Status.MATCHED]),
        unmatched=int(statuses[Status.UNMATCHED]),
        duplicate=int(statuses[Status.DUPLICATE]),
        rejected=index.rejections(),
        hits=index.hits_by_language(),
        unmatched_by_language=index.unmatched_by_language(),
    )
