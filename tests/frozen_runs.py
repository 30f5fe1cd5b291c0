"""A run and its datasets, made by the library's functions alone, without any service."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from clipcurate import storage
from clipcurate.datasets import blocks, parts, snapshot
from clipcurate.datasets.cuts import resolve_cuts
from clipcurate.datasets.dedup_files import duplicates_again
from clipcurate.datasets.emission import EmissionPlan, make_plan
from clipcurate.datasets.grouping_files import scored_again
from clipcurate.datasets.manifest import FileRecord
from clipcurate.datasets.match_index import MatchIndex, extras_from_hex, index_batches
from clipcurate.datasets.outcomes import Scored
from clipcurate.datasets.publishing import publish_dataset, publish_images, publish_pairs
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.run_plan import RunPlan
from clipcurate.datasets.run_record import PREFIX, FrozenRun, RunRecord, record_name
from clipcurate.datasets.task_summary import TaskSummary
from clipcurate.languages import Router
from clipcurate.matching import Matcher
from clipcurate.metadata import ALL, Metadata

ENTRIES = ("dog", "cat", "a", "red dog", "new york", "猫", "never")
BALANCED = EmissionRequest("balanced", t=4.0, seed=7)


@dataclass(frozen=True)
class Run:
    """A frozen run in `folder`, below `output`."""

    output: str
    folder: str
    plan: RunPlan
    indexes: list[MatchIndex]
    counts: dict[str, Any]
    snapshot_id: str
    projection: snapshot.Projection | None = None
    block_bytes: int = blocks.BLOCK_BYTES

    @property
    def identity(self) -> dict[str, Any]:
        """What an emission's identity says of the run."""
        early = self.projection is not None and self.projection.tasks is not None
        name = record_name(self.snapshot_id, [] if early else None)
        return FrozenRun.open(self.folder, name).identity

    def scored(self, request: EmissionRequest) -> list[Scored]:
        """Return every task with its critical t."""
        slices = [task.slices for task in self.plan.tasks]
        pieces = list(zip(slices, self.indexes, strict=True))
        with scored_again(self.plan, lambda: pieces, request, self.counts, {}) as again:
            return [again.load(number, index) for number, index in enumerate(self.indexes)]

    def plan_for(self, request: EmissionRequest) -> EmissionPlan:
        """Fix an emission."""
        scored = self.scored(request)
        cuts = resolve_cuts(request, self.counts, scored)
        summaries = [TaskSummary.of(request, self.counts, cuts, task) for task in scored]
        about = self.projection.identity() if self.projection else None
        early = self.projection is not None and self.projection.tasks is not None
        run = (self.identity, self.snapshot_id)
        return make_plan(request, *run, cuts, summaries, [], about, frozen_early=early)

    def emit(self, request: EmissionRequest = BALANCED) -> str:
        """Write a dataset and return its folder."""
        plan, scored = self.plan_for(request), self.scored(request)
        url = storage.join(self.output, "datasets", plan.emission_id)
        files = [f for part in range(plan.num_parts) for f in self._write(plan, part, scored, url)]
        publish_dataset(url, plan, files, self.counts, {ALL: ENTRIES}, {"host": "here"})
        return url

    def kept(self, request: EmissionRequest) -> list[dict[str, Any]]:
        """Return the rows of an emission without publishing it."""
        plan, scored = self.plan_for(request), self.scored(request)
        return [
            row
            for part in range(plan.num_parts)
            for batch in parts.kept_batches(self.plan, plan, part, scored.__getitem__)
            for row in batch.pairs.to_pylist()
        ]

    def _write(
        self, plan: EmissionPlan, part: int, scored: list[Scored], url: str
    ) -> list[FileRecord]:
        batches = list(parts.kept_batches(self.plan, plan, part, scored.__getitem__))
        schema = parts.dataset_schema(extras_from_hex(plan.extras), self.plan.has_images)
        with storage.staged(url, "t") as folder:
            files = [publish_pairs((b.pairs for b in batches), schema, part, folder, url)]
            if any(batch.images for batch in batches):
                samples = parts.image_samples(batches)
                files.append(publish_images(samples, part, folder, url, self.block_bytes))
        return files


def match(plan: RunPlan) -> list[MatchIndex]:
    router = Router.of(None, "", {ALL: Matcher.build(ENTRIES)}.get)
    indexes = []
    with duplicates_again(plan, range(len(plan.tasks)), lambda _: None) as duplicates_of:
        for number, task in enumerate(plan.tasks):
            duplicates = duplicates_of(number)
            parts = [MatchIndex.empty()]
            for piece in task.slices:
                parts += index_batches(plan, piece, router, duplicates)
            indexes.append(MatchIndex.concatenate(parts))
    return indexes


def freeze(
    plan: RunPlan,
    indexes: list[MatchIndex],
    output: str,
    announced: int = 0,
    tasks: tuple[int, ...] | None = None,
) -> Run:
    """Freeze the counts of all tasks, or of some as if they had converged."""
    counts = np.zeros(len(ENTRIES), np.int64)
    counted = indexes if tasks is None else [indexes[task] for task in tasks]
    for index in counted:
        np.add.at(counts, index.matches.entry_ids, 1)
    metadata = Metadata(ENTRIES)
    run_id = plan.run_id({ALL: metadata.fingerprint}, "metaclip1")
    projection, about = None, None
    if announced:
        seen = sum(map(len, counted))
        projection = snapshot.Projection({ALL: counts}, seen, announced, tasks)
        counts, about = projection.counts[ALL], projection.identity()
    name = snapshot.snapshot_id(run_id, [], {ALL: counts}, about)
    folder = storage.join(output, "runs", run_id)

    def put(content: bytes, stem: str) -> storage.StoredObject:
        return storage.publish_bytes(content, folder, stem, ".bin")

    record = RunRecord(
        run_id=run_id,
        snapshot_id=name,
        rule="metaclip1",
        plan=put(plan.to_bytes(), "plan"),
        counts=put(snapshot.to_bytes({ALL: counts}, projection), "counts"),
        metadata={ALL: put(metadata.to_bytes(), "metadata")},
        indexes=[put(index.to_bytes(), f"{i:06d}") for i, index in enumerate(indexes)],
    )
    stem = f"{PREFIX}-{record_name(name, None if tasks is None else [])}"
    storage.publish_bytes(record.to_bytes(), folder, stem, ".json")
    return Run(output, folder, plan, indexes, {ALL: counts}, name, projection)
