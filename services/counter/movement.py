"""For how long a run has not got on."""

from services.counter.store import Store, run_prefix


def seconds_still(store: Store, run_id: str) -> float | None:
    """Return the seconds since a run got on, by Redis's clock; None if Redis does not know.

    It gets on when a task is completed or reports more units than before, when a stage opens, and
    when an operator creates it, adds to it or takes it up again.
    """
    with store.node(run_id) as node:
        pipe = node.pipeline(transaction=False)
        pipe.time()
        pipe.hget(run_prefix(run_id) + "run", "moved")
        (seconds, microseconds), moved = pipe.execute()
    if moved is None:
        return None
    return max(float(seconds) + float(microseconds) / 1e6 - float(moved) / 1e3, 0.0)
