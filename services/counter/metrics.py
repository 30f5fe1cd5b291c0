"""What the counter shows to Prometheus, read from Redis when it is scraped."""

import logging
from collections.abc import Iterator

import redis
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.ledger import Ledger

log = logging.getLogger(__name__)

_STATES = ("ready", "leased", "done", "blocked", "quarantined")


class RunCollector(Collector):
    """Tasks by stage and state, pairs and hits of every run that is not done."""

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
        try:
            self._fill(tasks, pairs, hits)
            up.add_metric([], 1)
        except redis.RedisError as error:
            log.warning("no figures of runs: %s", error)
            up.add_metric([], 0)
        yield from (up, tasks, pairs, hits)

    def _fill(
        self, tasks: GaugeMetricFamily, pairs: GaugeMetricFamily, hits: GaugeMetricFamily
    ) -> None:
        for run_id in self._ledger.run_ids():
            run = self._ledger.run(run_id)
            if run.state == pb.RUN_STATE_DONE:
                continue
            pairs.add_metric([run_id], run.pairs)
            hits.add_metric([run_id], run.hits)
            for (stage, state), number in _by_stage(run).items():
                tasks.add_metric([run_id, stage, state], number)


def _by_stage(run: pb.Run) -> dict[tuple[str, str], int]:
    sums: dict[tuple[str, str], int] = {}
    for progress in run.stages:
        stage = pb.Stage.Name(progress.stage).removeprefix("STAGE_").lower()
        for state in _STATES:
            key = (stage, state)
            sums[key] = sums.get(key, 0) + getattr(progress, state)
    return sums
