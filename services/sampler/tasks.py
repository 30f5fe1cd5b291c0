"""The sampler's tasks: freeze, score, gather, settle, plan, write, publish."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from clipcurate import storage
from clipcurate.datasets import parts, snapshot
from clipcurate.datasets.cuts import resolve_cuts
from clipcurate.datasets.emission import EmissionPlan, make_plan
from clipcurate.datasets.manifest import NAME, FileRecord
from clipcurate.datasets.match_index import extras_from_hex
from clipcurate.datasets.outcomes import Scored, score
from clipcurate.datasets.parts import KeptBatch
from clipcurate.datasets.publishing import (
    made_here,
    publish_dataset,
    publish_images,
    publish_pairs,
)
from clipcurate.datasets.task_summary import TaskSummary
from clipcurate.errors import DatasetError
from clipcurate.hashing import hash_bytes
from clipcurate.metadata import Metadata
from clipcurate.rpc.clients import CounterClient, LedgerClient
from clipcurate.rpc.emissions import request_of
from clipcurate.rpc.finished import FinishedTasks
from clipcurate.rpc.references import read, reference
from clipcurate.rpc.v1 import ledger_pb2 as pb
from clipcurate.rpc.worker import Assignment
from services.sampler.freezing import Freezing
from services.sampler.image_tasks import gather_task, settle_task
from services.sampler.run_files import (
    RunFiles,
    ScoredTasks,
    SettledTasks,
    Watched,
    frozen_counts,
    frozen_projection,
    index_of,
)

STAGES = [
    pb.STAGE_PUBLISH,
    pb.STAGE_WRITE,
    pb.STAGE_PLAN,
    pb.STAGE_SETTLE,
    pb.STAGE_GATHER,
    pb.STAGE_SEAL,
    pb.STAGE_SCORE,
    pb.STAGE_FREEZE,
]
"""Late stages first: what is nearly finished is finished before more is begun."""


class SamplerTasks:
    """Handles the sampler's stages."""

    def __init__(self, ledger: LedgerClient, counter: CounterClient) -> None:
        self._ledger = ledger
        self._finished = FinishedTasks(ledger)
        freezing = Freezing(ledger, counter)
        self._stages: dict[int, Callable[[Assignment, RunFiles], pb.TaskResult]] = {
            pb.STAGE_FREEZE: freezing.freeze,
            pb.STAGE_SEAL: freezing.seal,
            pb.STAGE_SCORE: self._score,
            pb.STAGE_GATHER: self._gather,
            pb.STAGE_SETTLE: self._settle,
            pb.STAGE_PLAN: self._plan,
            pb.STAGE_WRITE: self._write,
            pb.STAGE_PUBLISH: self._publish,
        }

    def handle(self, assignment: Assignment) -> pb.TaskResult:
        """Do one task and return its result."""
        files = RunFiles.of(assignment, self._finished)
        return self._stages[assignment.task.stage](assignment, files)

    def _match_task(self, assignment: Assignment, files: RunFiles) -> pb.TaskRecord:
        """Return the match task that a SCORE task reads; others may still be open."""
        run, number = assignment.run, assignment.task.index
        if run.frozen_early:
            return self._ledger.get_task(run.run_id, pb.STAGE_MATCH, number)
        return files.match_records[number]

    def _score(self, assignment: Assignment, files: RunFiles) -> pb.TaskResult:
        """Pass 1: the critical t of every pair of one match task."""
        index = index_of(self._match_task(assignment, files))
        if index is None:
            return pb.TaskResult(score=pb.ScoreResult())
        request = request_of(assignment.emission.spec)
        counts = self._counts(files)
        critical = score(index, counts, request)
        folder = files.folder("scores", assignment.task.emission_key)
        stem = f"{assignment.task.index:06d}"
        content = critical.astype("<f8").tobytes()
        stored = storage.publish_bytes(content, folder, stem, ".f8")
        result = pb.ScoreResult(scores=reference(folder, stored))
        if request.size is None and request.group is None:
            cuts = resolve_cuts(request, counts, ())
            summary = TaskSummary.of(request, counts, cuts, Scored(index, critical)).to_bytes()
            stored = storage.publish_bytes(summary, folder, stem, ".json")
            result.summary.CopyFrom(reference(folder, stored))
        assignment.check(len(index))
        return pb.TaskResult(score=result)

    def _gather(self, assignment: Assignment, files: RunFiles) -> pb.TaskResult:
        """Settle the texts of one match task among themselves, image by image."""
        task = assignment.task
        scored = self._ledger.get_task(task.run_id, pb.STAGE_SCORE, task.index, task.emission_key)
        return gather_task(assignment, files, self._counts(files), scored)

    def _settle(self, assignment: Assignment, files: RunFiles) -> pb.TaskResult:
        """Settle the images of one partition across match tasks."""
        key = assignment.task.emission_key
        gathered = self._finished.before(assignment.lease, pb.STAGE_GATHER, key)
        return settle_task(assignment, files, gathered)

    def _plan(self, assignment: Assignment, files: RunFiles) -> pb.TaskResult:
        """Fix the cut and the ranges of the parts."""
        request, counts = request_of(assignment.emission.spec), self._counts(files)
        scored = self._scored(assignment, files)
        cuts = resolve_cuts(request, counts, Watched(scored, assignment))
        frozen = self._frozen(files)
        projection = frozen_projection(frozen.snapshot.url, frozen.snapshot.hash)
        plan = make_plan(
            request,
            files.identity,
            frozen.snapshot_id,
            cuts,
            Watched(scored.summaries(request, counts, cuts), assignment),
            unknown_rows(files),
            projection.identity() if projection else None,
            frozen_early=assignment.run.frozen_early,
        )
        folder = files.folder("emissions")
        stored = storage.publish_bytes(plan.to_bytes(), folder, plan.emission_id, ".json")
        name = f"{plan.request.kind}-{plan.emission_id[:16]}"
        result = pb.PlanResult(
            plan=reference(folder, stored),
            num_parts=plan.num_parts,
            dataset_url=storage.join(files.run.spec.output_url, "datasets", name),
            emission_id=plan.emission_id,
            totals=pb.PairTotals(**vars(plan.totals)),
        )
        return pb.TaskResult(plan=result)

    def _write(self, assignment: Assignment, files: RunFiles) -> pb.TaskResult:
        """Pass 2: write one part."""
        plan = self._emission_plan(assignment)
        part = assignment.task.index
        scored = self._scored(assignment, files)
        with_images: list[KeptBatch] = []

        def pairs() -> Iterator[pa.Table]:
            for batch in parts.kept_batches(files.plan, plan, part, scored.load):
                assignment.check(batch.pairs.num_rows)
                if batch.images is not None:
                    with_images.append(batch)
                yield batch.pairs

        dataset = assignment.emission.plan.dataset_url
        with storage.staged(dataset, assignment.lease.token) as directory:
            schema = parts.dataset_schema(extras_from_hex(plan.extras), files.plan.has_images)
            records = [publish_pairs(pairs(), schema, part, directory, dataset)]
            if with_images:
                images = parts.image_samples(with_images)
                records.append(publish_images(images, part, directory, dataset))
        result = pb.WriteResult(
            files=[json.dumps(record.to_json()) for record in records], pairs=records[0].rows
        )
        return pb.TaskResult(write=result)

    def _publish(self, assignment: Assignment, files: RunFiles) -> pb.TaskResult:
        """Write what stands beside the parts, and the manifest."""
        key = assignment.task.emission_key
        plan = self._emission_plan(assignment)
        written = self._ledger.list_tasks(files.run.run_id, pb.STAGE_WRITE, key)
        records = [
            FileRecord(**json.loads(text)) for task in written for text in task.result.write.files
        ]
        dataset = assignment.emission.plan.dataset_url
        kept = sum(record.rows for record in records if record.role == "pairs")
        if kept != plan.totals.kept:
            raise DatasetError(f"{dataset}: {kept} pairs written, {plan.totals.kept} planned")
        counts, entries = self._counts(files), _entries(files.run.spec)
        manifest = publish_dataset(dataset, plan, records, counts, entries, self._provenance(files))
        url = storage.join(dataset, NAME)
        content = storage.read_bytes(url)
        result = pb.PublishResult(
            manifest=pb.ObjectRef(url=url, size=len(content), hash=hash_bytes(content)),
            totals=pb.PairTotals(**vars(plan.totals)),
            content_hash=manifest.content_hash,
        )
        return pb.TaskResult(publish=result)

    def _frozen(self, files: RunFiles) -> pb.FreezeResult:
        (record,) = self._ledger.list_tasks(files.run.run_id, pb.STAGE_FREEZE)
        return record.result.freeze

    def _counts(self, files: RunFiles) -> snapshot.Counts:
        ref = self._frozen(files).snapshot
        return frozen_counts(ref.url, ref.hash)

    def _scored(self, assignment: Assignment, files: RunFiles) -> ScoredTasks:
        key, lease = assignment.task.emission_key, assignment.lease
        if not assignment.emission.spec.group:
            return ScoredTasks(files, self._finished.before(lease, pb.STAGE_SCORE, key))
        gathered = self._finished.before(lease, pb.STAGE_GATHER, key)
        return SettledTasks(files, gathered, self._finished.before(lease, pb.STAGE_SETTLE, key))

    def _emission_plan(self, assignment: Assignment) -> EmissionPlan:
        ref = assignment.emission.plan.plan
        return EmissionPlan.from_bytes(read(ref))

    def _provenance(self, files: RunFiles) -> dict[str, Any]:
        spec, frozen = files.run.spec, self._frozen(files)
        return {
            **made_here(),
            "run": files.folder(),
            "plan": spec.plan.url,
            "engine": spec.engine,
            "dedup": files.plan.dedup.by if files.plan.dedup else None,
            **_stability(frozen),
            "pool": "open" if spec.stability.announced_pairs else "sealed",
            "recounted": frozen.recounted,
            "unmatched_by_language": files.unmatched_by_language(),
        }


def unknown_rows(files: RunFiles) -> list[dict[str, Any]]:
    """Return the inputs that could not be read, with the reasons."""
    return [
        {"inputs": files.plan.describe_task(record.task.index), "reason": record.error}
        for record in files.quarantined()
    ]


def _entries(spec: pb.RunSpec) -> dict[str, tuple[str, ...]]:
    return {ref.language: Metadata.from_bytes(read(ref.object)).entries for ref in spec.metadata}


def _stability(frozen: pb.FreezeResult) -> dict[str, Any]:
    """Return how stable the counts were when they were frozen."""
    if not frozen.HasField("convergence"):
        return {"stability": "complete"}
    found = frozen.convergence
    names = ("tasks", "pairs_seen", "pairs_announced", "drift", "windows", "epsilon")
    return {
        "stability": "converged",
        "convergence": {name: getattr(found, name) for name in names},
    }
