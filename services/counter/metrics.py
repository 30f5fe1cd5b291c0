"""What a counter shows to Prometheus of its own work; of runs see `run_metrics`."""

import logging

from prometheus_client import Counter, Histogram

from clipcurate.rpc.tasks import fields_of, stage_name
from clipcurate.rpc.v1 import ledger_pb2 as pb

log = logging.getLogger(__name__)

FLUSH_SECONDS = Histogram(
    "clipcurate_counter_flush_seconds",
    "Duration of writes of counts to Redis, up to its acknowledgement",
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)
INCREMENTS = Counter(
    "clipcurate_counter_increments_total",
    "Increments of entries' counts that Redis has acknowledged, those of repeated calls included",
)
LEASES_EXPIRED = Counter(
    "clipcurate_counter_leases_expired_total",
    "Leases that ran out, so that their tasks go to other workers",
    ["stage"],
)


def note_expired(task: pb.Task, holder: str) -> None:
    """Count and log that a lease ran out in the hands of a worker."""
    LEASES_EXPIRED.labels(stage_name(task.stage)).inc()
    log.warning(
        "lease ran out: its worker died or hung", extra={**fields_of(task), "worker": holder}
    )
