"""What the counter shows to Prometheus, read from Redis when it is scraped."""

import logging
from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.ledger import Ledger
from services.counter.store import FAILURES

log = logging.getLogger(__name__)

_STABILITY = {
    "drift_ratio": "Largest share of pairs whose fates changed in the last window",
    "windows_below_epsilon": "Windows in a row whose drift was below epsilon",
    "pairs_announced": "Pairs of the whole pool, as announced or estimated",
    "converged": "1 where the counts are converged or complete",
    "frozen_ratio": "Share of the pool's pairs that the frozen counts are of",
}
_OVER = (pb.RUN_STATE_DONE, pb.RUN_STATE_CANCELLED, pb.RUN_STATE_ARCHIVED)
"""Runs of which nothing is handed out any more; scalers go by these figures."""
_STATES = ("ready", "leased", "done", "blocked", "quarantined", "waiting")


class RunCollector(Collector):
    """Tasks by stage and state, pairs, hits and stability of every run that goes on."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def describe(self) -> Iterator[Metric]:
        """Name nothing ahead: registration must not need Redis."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield the current figures."""
        tasks = GaugeMetricFamily(
            "clipcurate_tasks", "Tasks by state", labels=["run", "stage", "state"]
        )
        pairs = GaugeMetricFamily("clipcurate_pairs", "Pairs read", labels=["run"])
        hits = GaugeMetricFamily("clipcurate_hits", "Hits counted", labels=["run"])
        up = GaugeMetricFamily("clipcurate_redis_up", "Whether Redis answers")
        stability = {
            name: GaugeMetricFamily(f"clipcurate_run_{name}", about, labels=["run"])
            for name, about in _STABILITY.items()
        }
        try:
            for run in self._runs():
                pairs.add_metric([run.run_id], run.pairs)
                hits.add_metric([run.run_id], run.hits)
                for (stage, state), number in _by_stage(run).items():
                    tasks.add_metric([run.run_id, stage, state], number)
                for name, value in _stability(run).items():
                    stability[name].add_metric([run.run_id], value)
            up.add_metric([], 1)
        except FAILURES as error:
            log.warning("no figures of runs: %s", error)
            up.add_metric([], 0)
        yield from (up, tasks, pairs, hits, *stability.values())

    def _runs(self) -> Iterator[pb.Run]:
        runs = (self._ledger.run(run_id) for run_id in self._ledger.run_ids())
        return (run for run in runs if run.state not in _OVER)


def _stability(run: pb.Run) -> dict[str, float]:
    """Return the figures of a run's stability; no drift before the second window has ended."""
    found = run.stability_progress
    figures: dict[str, float] = {
        "windows_below_epsilon": found.windows_below,
        "pairs_announced": found.pairs_announced,
        "converged": run.stability in (pb.STABILITY_CONVERGED, pb.STABILITY_COMPLETE),
    }
    if found.drifts:
        figures["drift_ratio"] = found.drifts[-1]
    if run.HasField("frozen"):
        figures["frozen_ratio"] = _frozen_ratio(run.frozen)
    return figures


def _frozen_ratio(frozen: pb.FreezeResult) -> float:
    found = frozen.convergence
    return found.pairs_seen / found.pairs_announced if frozen.HasField("convergence") else 1.0


def _by_stage(run: pb.Run) -> dict[tuple[str, str], int]:
    sums: dict[tuple[str, str], int] = {}
    for progress in run.stages:
        stage = pb.Stage.Name(progress.stage).removeprefix("STAGE_").lower()
        for state in _STATES:
            key = (stage, state)
            sums[key] = sums.get(key, 0) + getattr(progress, state)
    return sums
