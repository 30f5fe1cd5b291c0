"""A run's stored objects, as the sampler's tasks need them."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeVar

import numpy as np

from clipcurate import storage
from clipcurate.balancing import Cut
from clipcurate.datasets import snapshot
from clipcurate.datasets.grouping_files import SettledFiles
from clipcurate.datasets.match_index import MatchIndex
from clipcurate.datasets.outcomes import Scored
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.run_plan import RunPlan, load_plan
from clipcurate.datasets.run_record import RunRecord
from clipcurate.datasets.task_summary import TaskSummary
from clipcurate.errors import ConflictError
from clipcurate.rpc.finished import FinishedTasks
from clipcurate.rpc.references import read
from clipcurate.rpc.v1 import ledger_pb2 as pb
from clipcurate.rpc.worker import Assignment
from clipcurate.storage import StoredObject

Item = TypeVar("Item")


@dataclass(frozen=True)
class Watched(Iterable[Item]):
    """Items for as long as the lease holds; as often as the items can be gone through."""

    items: Iterable[Item]
    assignment: Assignment

    def __iter__(self) -> Iterator[Item]:
        """Yield the items. Raises LeaseLostError, Draining."""
        for item in self.items:
            yield item
            self.assignment.check()


@lru_cache(maxsize=4)
def frozen_counts(url: str, digest: str) -> snapshot.Counts:
    """Return a stored snapshot's counts."""
    return snapshot.from_bytes(storage.read_object(url, digest))


@lru_cache(maxsize=4)
def frozen_projection(url: str, digest: str) -> snapshot.Projection | None:
    """Return what a stored snapshot's counts were projected from; None if they are the run's."""
    return snapshot.projection_from_bytes(storage.read_object(url, digest))


@dataclass(frozen=True)
class RunFiles:
    """The results of a run's finished tasks."""

    run: pb.Run
    list_match_tasks: Callable[[], Sequence[pb.TaskRecord]]

    @classmethod
    def of(cls, assignment: Assignment, finished: FinishedTasks) -> "RunFiles":
        """Return the files of an assignment's run."""
        lease = assignment.lease
        return cls(assignment.run, lambda: finished.before(lease, pb.STAGE_MATCH))

    @cached_property
    def match_records(self) -> Sequence[pb.TaskRecord]:
        """All match tasks, listed when they are first asked for."""
        return self.list_match_tasks()

    @property
    def plan(self) -> RunPlan:
        """The run's plan."""
        return load_plan(self.run.spec.plan.url, self.run.spec.plan.hash)

    @property
    def identity(self) -> dict[str, Any]:
        """What an emission's identity says of the run."""
        spec = self.run.spec
        metadata = {ref.language: ref.fingerprint for ref in spec.metadata}
        return {"id": self.run.run_id, "rule": spec.rule, "metadata": metadata}

    def folder(self, *names: str) -> str:
        """Return a folder of the run."""
        return storage.join(self.run.spec.output_url, "runs", self.run.run_id, *names)

    def record(self, snapshot_id: str, counts: StoredObject) -> RunRecord:
        """Return what makes the run's folder readable without any service."""
        spec = self.run.spec
        return RunRecord(
            run_id=self.run.run_id,
            snapshot_id=snapshot_id,
            rule=spec.rule,
            plan=self.relative(spec.plan),
            counts=counts,
            metadata={ref.language: self.relative(ref.object) for ref in spec.metadata},
            indexes=[
                self.relative(record.result.match.index) if record.HasField("result") else None
                for record in self.match_records
            ],
        )

    def relative(self, ref: pb.ObjectRef) -> StoredObject:
        """Return an object of the run's folder as the run's record names it."""
        return StoredObject(ref.url.removeprefix(self.folder() + "/"), ref.size, ref.hash)

    def require_finished(self) -> None:
        """Raise ConflictError unless every match task is counted or quarantined."""
        finished = (pb.TASK_STATE_DONE, pb.TASK_STATE_QUARANTINED)
        if any(record.state not in finished for record in self.match_records):
            raise ConflictError(f"run {self.run.run_id}: match tasks are open again")

    @property
    def sizes(self) -> dict[str, int]:
        """Return the number of entries per metadata language."""
        return {ref.language: ref.num_entries for ref in self.run.spec.metadata}

    def counted(self) -> list[int]:
        """Return the numbers of the counted tasks."""
        return [r.task.index for r in self.match_records if r.state == pb.TASK_STATE_DONE]

    @property
    def seen(self) -> int:
        """Pairs of the counted tasks."""
        return sum(self.match_records[task].result.match.pairs for task in self.counted())

    @property
    def counted_rows(self) -> int:
        """Rows of the counted tasks by the plan."""
        return sum(self.match_records[task].result.match.planned_rows for task in self.counted())

    def projection(self, raw: snapshot.Counts) -> snapshot.Projection | None:
        """Return how an open pool's counts are projected to what is announced; else None.

        A pool that turned out larger than announced is taken to be as large as it is.
        """
        announced = self.run.spec.stability.announced_pairs
        if not announced or not self.seen:
            return None
        return snapshot.Projection(raw, self.seen, max(announced, self.seen))

    def indexes(self) -> Iterator[MatchIndex]:
        """Yield the match indexes of the counted tasks in order, each read when it is its turn."""
        for task in self.counted():
            yield MatchIndex.from_bytes(read(self.match_records[task].result.match.index))

    def quarantined(self) -> list[pb.TaskRecord]:
        """Return the tasks whose rows are unknown."""
        return [r for r in self.match_records if r.state == pb.TASK_STATE_QUARANTINED]

    def quarantined_inputs(self) -> list[Any]:
        """Return what these tasks would have read, for identities."""
        return [self.plan.describe_task(record.task.index) for record in self.quarantined()]

    def unmatched_by_language(self) -> dict[str, int]:
        """Return the unmatched pairs per language, also of languages without metadata."""
        sums: Counter[str] = Counter()
        for record in self.match_records:
            sums.update(record.result.match.unmatched_by_language)
        return dict(sorted(sums.items()))

    def index(self, task: int) -> MatchIndex | None:
        """Return a task's match index; None if it is quarantined."""
        return index_of(self.match_records[task])


def index_of(record: pb.TaskRecord) -> MatchIndex | None:
    """Return the index of a finished match task; None if it is quarantined."""
    if record.state == pb.TASK_STATE_QUARANTINED:
        return None
    ref = record.result.match.index
    return MatchIndex.from_bytes(read(ref))


class ScoredTasks(Iterable[Scored]):
    """All tasks of an emission with their scores, loaded one at a time.

    Args:
        files: of the run.
        scores: the SCORE tasks.
    """

    def __init__(self, files: RunFiles, scores: Sequence[pb.TaskRecord]) -> None:
        self._files = files
        self._scores = scores

    def __iter__(self) -> Iterator[Scored]:
        """Yield the tasks in order."""
        return (self.load(task) for task in range(len(self._scores)))

    def load(self, task: int) -> Scored:
        """Return one task's index and scores; an empty one if it is quarantined."""
        index = self._files.index(task)
        if index is None:
            return Scored(MatchIndex.empty(), np.zeros(0))
        ref = self._scores[task].result.score.scores
        return Scored(index, np.frombuffer(read(ref), "<f8"))

    def summaries(
        self, request: EmissionRequest, counts: snapshot.Counts, cuts: Mapping[str, Cut]
    ) -> Iterator[TaskSummary]:
        """Yield what the cuts keep of each task, in order: as scoring left it, or found now."""
        for task, record in enumerate(self._scores):
            if record.result.score.HasField("summary"):
                yield TaskSummary.from_bytes(read(record.result.score.summary))
            else:
                yield TaskSummary.of(request, counts, cuts, self.load(task))


class SettledTasks(ScoredTasks):
    """As `ScoredTasks`, of an emission that gathers rows.

    Args:
        files: of the run.
        gathered: the GATHER tasks.
        settled: the SETTLE tasks.
    """

    def __init__(
        self,
        files: RunFiles,
        gathered: Sequence[pb.TaskRecord],
        settled: Sequence[pb.TaskRecord],
    ) -> None:
        super().__init__(files, gathered)
        self._settled = SettledFiles(
            [record.result.gather.images.url or None for record in gathered],
            [record.result.settle.changes.url for record in settled],
        )

    def load(self, task: int) -> Scored:
        """Return one task's index and settled scores; an empty one if it is quarantined."""
        return self._settled.load(task, self._files.index(task) or MatchIndex.empty())

    def summaries(
        self, request: EmissionRequest, counts: snapshot.Counts, cuts: Mapping[str, Cut]
    ) -> Iterator[TaskSummary]:
        """Yield what the cuts keep of each task, in order: as gathering left it, put right."""
        sums = self._settled.sums()
        for task, record in enumerate(self._scores):
            if record.result.gather.HasField("summary"):
                left = TaskSummary.from_bytes(read(record.result.gather.summary))
            else:
                left = TaskSummary.of(request, counts, cuts, self.load(task))
            yield sums.of(task, left)
