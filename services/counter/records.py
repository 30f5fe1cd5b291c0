"""Tasks as Redis names and holds them, as the messages that clients see."""

from collections.abc import Mapping

from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.stages import parse_task_id

UNMATCHED, REJECTED = "unmatched:", "rejected:"
"""Prefixes of languages and of reasons among a run's totals."""


def task_of(run_id: str, task_id: str) -> pb.Task:
    """Return the task that an id within a run names."""
    key, index = parse_task_id(task_id)
    return pb.Task(run_id=run_id, stage=key.stage, emission_key=key.emission, index=index)


def record_of(task: pb.Task, fields: Mapping[bytes, bytes]) -> pb.TaskRecord:
    """Return a task as its hash in Redis has it."""
    record = pb.TaskRecord(
        task=task,
        state=state_of(fields.get(b"state", b"ready")),
        worker=fields.get(b"worker", b"").decode(),
        failures=int(fields.get(b"failures", 0)),
        error=fields.get(b"error", b"").decode(errors="replace"),
    )
    if b"result" in fields:
        record.result.ParseFromString(fields[b"result"])
    return record


def state_of(name: bytes) -> pb.TaskState.ValueType:
    """Return the state that Redis names so."""
    return pb.TaskState.Value(f"TASK_STATE_{name.decode().upper()}")


def totals_of(result: pb.MatchResult) -> dict[str, int]:
    """Return what a match task adds to its run's totals, by name."""
    found = {name: getattr(result, name) for name in ("pairs", "matched", "duplicate")}
    found |= {"hits": sum(result.hits.values()), "planned_rows": result.planned_rows}
    found |= {UNMATCHED + name: pairs for name, pairs in result.unmatched_by_language.items()}
    return found | {REJECTED + reason: pairs for reason, pairs in result.rejected.items()}
