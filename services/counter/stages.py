"""How a run goes from stage to stage. Pure: decides from tallies, touches nothing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clipcurate.datasets.request import image_partitions
from clipcurate.rpc.v1 import ledger_pb2 as pb

FINISHED = ("done", "quarantined")
_BEFORE = {
    pb.STAGE_DEDUP: pb.STAGE_KEYS,
    pb.STAGE_FREEZE: pb.STAGE_MATCH,
    pb.STAGE_SCORE: pb.STAGE_FREEZE,
    pb.STAGE_GATHER: pb.STAGE_SCORE,
    pb.STAGE_SETTLE: pb.STAGE_GATHER,
    pb.STAGE_PLAN: pb.STAGE_SCORE,
    pb.STAGE_WRITE: pb.STAGE_PLAN,
    pb.STAGE_PUBLISH: pb.STAGE_WRITE,
    pb.STAGE_TRAIN: pb.STAGE_PUBLISH,
}
_OF_RUNS = (pb.STAGE_KEYS, pb.STAGE_DEDUP, pb.STAGE_MATCH, pb.STAGE_FREEZE)
_ORDER = (
    *(pb.STAGE_KEYS, pb.STAGE_DEDUP, pb.STAGE_MATCH, pb.STAGE_FREEZE, pb.STAGE_SCORE),
    *(pb.STAGE_SEAL, pb.STAGE_GATHER, pb.STAGE_SETTLE),
    *(pb.STAGE_PLAN, pb.STAGE_WRITE, pb.STAGE_PUBLISH, pb.STAGE_TRAIN),
)
_AFTER_SCORE = tuple(stage for stage, before in _BEFORE.items() if before == pb.STAGE_SCORE)


@dataclass(frozen=True, order=True)
class StageKey:
    """A stage of a run (emission "") or of one of its emissions."""

    stage: pb.Stage.ValueType
    emission: str = ""

    def __str__(self) -> str:
        """Return the form that Redis keys use."""
        return f"{self.stage}:{self.emission}"

    @classmethod
    def parse(cls, text: str) -> "StageKey":
        """Read what `str` wrote."""
        stage, _, emission = text.partition(":")
        return cls(pb.Stage.ValueType(int(stage)), emission)

    @property
    def place(self) -> tuple[int, str]:
        """What sorts keys in the order in which a run goes through its stages."""
        return _ORDER.index(self.stage), self.emission

    def task_id(self, index: int) -> str:
        """Return the id of one of its tasks."""
        return f"{self}:{index}"


MATCH = StageKey(pb.STAGE_MATCH)
FREEZE = StageKey(pb.STAGE_FREEZE)
SEAL = StageKey(pb.STAGE_SEAL)


def parse_task_id(task_id: str) -> tuple[StageKey, int]:
    """Split a task id into its stage and its number."""
    stage, _, index = task_id.rpartition(":")
    return StageKey.parse(stage), int(index)


@dataclass(frozen=True)
class StageTally:
    """How many tasks of a stage are in which state."""

    total: int
    ready: int = 0
    leased: int = 0
    done: int = 0
    blocked: int = 0
    quarantined: int = 0
    waiting: int = 0

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.done + self.quarantined == self.total


def due_stages(
    spec: pb.RunSpec,
    emissions: Mapping[str, pb.EmissionSpec],
    tallies: Mapping[StageKey, StageTally],
    num_parts: Mapping[str, int],
    early: bool = False,
) -> Iterator[tuple[StageKey, int]]:
    """Yield each stage whose predecessor is finished, with its number of tasks.

    Args:
        spec: the run.
        emissions: its emissions by key.
        tallies: the stages that are open.
        num_parts: parts per planned emission.
        early: whether counts are frozen, or may be, before MATCH is finished. Then SEAL follows
            both, and what follows SCORE needs it.
    """
    sizes = {pb.STAGE_MATCH: spec.num_tasks, pb.STAGE_FREEZE: 1}
    if spec.dedup_partitions:
        dedup = {pb.STAGE_KEYS: spec.num_tasks, pb.STAGE_DEDUP: spec.dedup_partitions}
        sizes = dedup | sizes
    yield from _until_unfinished(sizes, "", tallies)
    if early and MATCH in tallies and not is_finished(tallies, MATCH):
        yield FREEZE, 1
    if not is_finished(tallies, FREEZE):
        return
    if early and is_finished(tallies, MATCH):
        yield SEAL, 1
    for key, emission in emissions.items():
        stages = {pb.STAGE_SCORE: spec.num_tasks}
        if emission.group:
            stages[pb.STAGE_GATHER] = spec.num_tasks
            stages[pb.STAGE_SETTLE] = image_partitions(spec.num_tasks)
        stages |= {
            pb.STAGE_PLAN: 1,
            pb.STAGE_WRITE: num_parts.get(key, 0),
            pb.STAGE_PUBLISH: 1,
        }
        if emission.train.preset:
            stages[pb.STAGE_TRAIN] = 1
        if early and not is_finished(tallies, SEAL):
            stages = {pb.STAGE_SCORE: spec.num_tasks}
        yield from _until_unfinished(stages, key, tallies)


def _until_unfinished(
    sizes: Mapping[pb.Stage.ValueType, int], emission: str, tallies: Mapping[StageKey, StageTally]
) -> Iterator[tuple[StageKey, int]]:
    """Yield stages with their numbers of tasks, up to the first that is not finished."""
    for stage, total in sizes.items():
        yield StageKey(stage, emission), total
        if not is_finished(tallies, StageKey(stage, emission)):
            return


def reading_stages(spec: pb.RunSpec, early: bool = False) -> tuple[StageKey, StageKey]:
    """Return the stage whose tasks may be quarantined, and the one that makes this final.

    It is the first that reads the pool: once pairs were dropped in favour of a task's, its rows
    cannot be given up any more. Counts that were frozen `early` do not know what is quarantined
    later: SEAL does.
    """
    if spec.dedup_partitions:
        return StageKey(pb.STAGE_KEYS), StageKey(pb.STAGE_DEDUP)
    return MATCH, SEAL if early else FREEZE


def stages_before(
    key: StageKey,
    spec: pb.RunSpec,
    emission: pb.EmissionSpec | None = None,
    early: bool = False,
) -> list[StageKey]:
    """Return the stages that must be finished before this one opens.

    Of FREEZE it is MATCH, unless the counts are converged and may be frozen so.

    Args:
        key: the stage.
        spec: its run.
        emission: the emission that it is of, if it is of one.
        early: whether the counts were frozen before MATCH was finished.
    """
    if key == SEAL:
        return [MATCH, FREEZE]
    if key == MATCH and spec.dedup_partitions:
        return [StageKey(pb.STAGE_DEDUP)]
    if key.stage == pb.STAGE_PLAN and emission is not None and emission.group:
        return [StageKey(pb.STAGE_SETTLE, key.emission)]
    before = _BEFORE.get(key.stage)
    if before is None:
        return []
    first = StageKey(before, "" if before in _OF_RUNS else key.emission)
    return [first, SEAL] if early and key.stage in _AFTER_SCORE else [first]


def is_finished(tallies: Mapping[StageKey, StageTally], key: StageKey) -> bool:
    """Say whether a stage is open and nothing of it is left to do."""
    return key in tallies and tallies[key].finished


def last_stage(emission: pb.EmissionSpec) -> pb.Stage.ValueType:
    """Return the stage after which an emission is complete."""
    return pb.STAGE_TRAIN if emission.train.preset else pb.STAGE_PUBLISH


def run_state(
    cancelled: bool,
    emissions: Mapping[str, pb.EmissionSpec],
    tallies: Mapping[StageKey, StageTally],
    due: Iterable[StageKey] = (),
    early: bool = False,
) -> pb.RunState.ValueType:
    """Say where a run stands, from one look at it.

    Args:
        cancelled: whether an operator cancelled it.
        emissions: its emissions by key.
        tallies: the stages that are open.
        due: the stages that are open or should be; one that is not open yet is work to come.
        early: whether counts were frozen before MATCH was finished, so that SEAL is its end.
    """
    if cancelled:
        return pb.RUN_STATE_CANCELLED
    ends = [SEAL if early else FREEZE]
    ends += [StageKey(last_stage(spec), key) for key, spec in emissions.items()]
    if all(is_finished(tallies, end) for end in ends):
        return pb.RUN_STATE_DONE
    busy = any(t.ready or t.leased for t in tallies.values())
    if any(t.blocked for t in tallies.values()) and not busy and all(key in tallies for key in due):
        return pb.RUN_STATE_BLOCKED
    return pb.RUN_STATE_ACTIVE


def stability(tallies: Mapping[StageKey, StageTally], *, converged: bool) -> pb.Stability.ValueType:
    """Say how stable the counts are, given whether drift has been small for long enough."""
    if is_finished(tallies, MATCH):
        return pb.STABILITY_COMPLETE
    return pb.STABILITY_CONVERGED if converged else pb.STABILITY_COUNTING


def hand_out_scores(total: int, seed: int) -> list[float]:
    """Return each task's place in the order of hand-out, keyed by `seed`, in [0, 1).

    Crawl shards are not exchangeable: a random order makes early counts a fair sample.
    """
    order: Sequence[int] = np.random.default_rng(seed).permutation(total).tolist()
    return [place / max(total, 1) for place in order]
