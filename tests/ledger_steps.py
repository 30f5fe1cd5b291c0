"""Small runs, and the steps that tests of the ledger take with them."""

from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.ledger import Ledger
from services.counter.stages import StageKey

RUN = "run-1"
MATCH = [pb.STAGE_MATCH]


def spec(tasks: int = 3) -> pb.RunSpec:
    """The spec of a run of so many tasks."""
    metadata = [pb.MetadataRef(language="all", fingerprint="f", num_entries=10)]
    return pb.RunSpec(output_url="/nowhere", num_tasks=tasks, metadata=metadata, rule="metaclip1")


def dedup_spec() -> pb.RunSpec:
    """The spec of a run of two tasks and one partition of duplicates."""
    with_dedup = spec(2)
    with_dedup.dedup_partitions = 1
    return with_dedup


def balanced(**more: object) -> pb.EmissionSpec:
    """A balanced emission at t = 5."""
    return pb.EmissionSpec(kind=pb.EMISSION_KIND_BALANCED, t=5.0, **more)


def match_result(hits: int = 2) -> pb.TaskResult:
    """What a matcher says of a task of ten pairs."""
    return pb.TaskResult(match=pb.MatchResult(pairs=10, matched=2, hits={"all": hits}))


def claim(ledger: Ledger, worker: str = "a", stages: list[int] | None = None) -> pb.Lease:
    """Claim a task, which there is."""
    lease = ledger.claim(worker, stages or MATCH)
    assert lease is not None
    return lease


def states(ledger: Ledger, stage: int = pb.STAGE_MATCH, key: str = "") -> list[str]:
    """The states of a stage's tasks, by index."""
    return [
        pb.TaskState.Name(record.state).removeprefix("TASK_STATE_")
        for records in ledger.tasks(RUN, StageKey(stage, key))
        for record in records
    ]
