"""Tasks as people, metrics and logs name them."""

from clipcurate.rpc.v1 import ledger_pb2


def stage_name(stage: int) -> str:
    """Return a stage's name: `match`, `freeze`, …; a number that this version does not know."""
    if stage not in ledger_pb2.Stage.values():
        return str(stage)
    return ledger_pb2.Stage.Name(ledger_pb2.Stage.ValueType(stage)).removeprefix("STAGE_").lower()


def describe(task: ledger_pb2.Task) -> str:
    """Name a task for people."""
    return f"{stage_name(task.stage)} task {task.index} of run {task.run_id[:8]}"


def fields_of(task: ledger_pb2.Task) -> dict[str, str | int]:
    """Return what a line of log says of a task."""
    fields: dict[str, str | int] = {"run": task.run_id, "task": task.index}
    fields["stage"] = stage_name(task.stage)
    if task.emission_key:
        fields["emission"] = task.emission_key
    return fields
