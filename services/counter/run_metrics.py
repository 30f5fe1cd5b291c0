"""What the counter shows to Prometheus of runs, read from Redis when it is scraped."""

import logging
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from threading import Lock

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from clipcurate.balancing.stability import announced_pairs
from clipcurate.errors import NotFoundError
from clipcurate.rpc.tasks import stage_name
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.ledger import ENDED, Ledger
from services.counter.movement import seconds_still
from services.counter.records import REJECTED
from services.counter.schema import newer_left_out
from services.counter.store import FAILURES, Store

log = logging.getLogger(__name__)

SHOWN_RUNS = 100
"""So many runs are shown, the oldest that go on: those whose tasks are handed out."""
SCRAPE_SECONDS = 5.0
"""So long a scrape waits for Redis."""

_FAMILIES = {
    "tasks": ("Tasks by state", ["run", "stage", "state"]),
    "pairs": ("Pairs read by counted tasks", ["run"]),
    "hits": ("Hits counted", ["run"]),
    "run_pairs_planned": ("Pairs of the plan, by what its counted tasks hold", ["run"]),
    "run_pairs_outcome": ("Pairs read by what became of them", ["run", "outcome"]),
    "run_rejected_pairs": ("Rejected pairs by reason", ["run", "reason"]),
    "run_lag_seconds": ("Time since a run with open tasks last got on; else 0", ["run"]),
    "run_drift_ratio": ("Largest share of pairs whose fates changed in the last window", ["run"]),
    "run_windows_below_epsilon": ("Windows in a row whose drift was below epsilon", ["run"]),
    "run_pairs_announced": ("Pairs of the whole pool, as announced or estimated", ["run"]),
    "run_converged": ("1 where the counts are converged or complete", ["run"]),
    "run_frozen_ratio": ("Share of the pool's pairs that the frozen counts are of", ["run"]),
}
_STATES = ("ready", "leased", "done", "blocked", "quarantined", "waiting")
_OUTCOMES = ("rejected", "filtered", "duplicate", "unmatched", "not_chosen", "dropped", "kept")

Sample = tuple[str, list[str], float]
"""A family's name, the values of its labels, and the value."""


class RunCollector(Collector):
    """Where every run stands that goes on. No scrape takes much longer than SCRAPE_SECONDS."""

    def __init__(self, ledger: Ledger, store: Store) -> None:
        self._ledger = ledger
        self._store = store
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="scrape")
        self._reading: Future[list[Sample]] | None = None
        self._lock = Lock()

    def describe(self) -> Iterator[Metric]:
        """Name nothing ahead: registration must not need Redis."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield the current figures; where Redis does not answer in time, that it does not."""
        families = {
            name: GaugeMetricFamily(f"clipcurate_{name}", about, labels=labels)
            for name, (about, labels) in _FAMILIES.items()
        }
        families["runs_active"] = GaugeMetricFamily("clipcurate_runs_active", "Runs that go on")
        up = GaugeMetricFamily("clipcurate_redis_up", "Whether Redis answers")
        try:
            for name, labels, value in self._samples():
                families[name].add_metric(labels, value)
            up.add_metric([], 1)
        except (*FAILURES, TimeoutError) as error:
            log.warning("no figures of runs: %s", str(error) or "Redis does not answer in time")
            up.add_metric([], 0)
        yield from (up, *families.values())

    def _samples(self) -> list[Sample]:
        """Read in a thread of its own; who comes while it hangs waits for the same answer."""
        with self._lock:
            if self._reading is None or self._reading.done():
                self._reading = self._reader.submit(self._read)
            reading = self._reading
        return reading.result(SCRAPE_SECONDS)

    def _read(self) -> list[Sample]:
        listed = self._ledger.active_run_ids()
        shown = [run for run_id in listed[:SHOWN_RUNS] if (run := self._going_on(run_id))]
        active = len(listed[SHOWN_RUNS:]) + len(shown)
        return [("runs_active", [], active), *(s for run in shown for s in self._of_run(run))]

    def _going_on(self, run_id: str) -> pb.Run | None:
        """Return a run unless it has ended, has gone since it was listed, or is not known here."""
        with suppress(NotFoundError), newer_left_out():
            run = self._ledger.run(run_id)
            return None if run.state in ENDED else run
        return None

    def _of_run(self, run: pb.Run) -> Iterator[Sample]:
        totals = self._ledger.totals(run.run_id)
        figures = {
            "pairs": run.pairs,
            "hits": run.hits,
            **_stability(run),
        }
        if run.spec.planned_rows:
            figures["run_pairs_planned"] = _planned_pairs(run.spec, totals)
        still = seconds_still(self._store, run.run_id)
        if still is not None:
            figures["run_lag_seconds"] = still if _is_open(run) else 0.0
        yield from ((name, [run.run_id], value) for name, value in figures.items())
        for labels, number in _by_stage(run).items():
            yield "tasks", [run.run_id, *labels], number
        for outcome, pairs in _outcomes(run, totals).items():
            yield "run_pairs_outcome", [run.run_id, outcome], pairs
        for reason, pairs in _rejected(totals).items():
            yield "run_rejected_pairs", [run.run_id, reason], pairs


def _planned_pairs(spec: pb.RunSpec, totals: Mapping[str, int]) -> int:
    """Return how many pairs the plan has: as its counted tasks tell, once there are any."""
    seen, rows = totals.get("pairs", 0), totals.get("planned_rows", 0)
    return announced_pairs(seen, rows, spec.planned_rows) if rows else spec.planned_rows


def _is_open(run: pb.Run) -> bool:
    return any(stage.ready or stage.leased for stage in run.stages)


def _outcomes(run: pb.Run, totals: Mapping[str, int]) -> dict[str, int]:
    """Return pairs by outcome: what is known before any emission, else of the newest planned."""
    planned = [e.plan.totals for e in run.emissions if e.plan.HasField("totals")]
    if planned:
        return {outcome: getattr(planned[-1], outcome) for outcome in _OUTCOMES}
    return {
        "rejected": sum(_rejected(totals).values()),
        "duplicate": totals.get("duplicate", 0),
        "unmatched": sum(run.unmatched_by_language.values()),
        "matched": totals.get("matched", 0),
    }


def _rejected(totals: Mapping[str, int]) -> dict[str, int]:
    found = {name: pairs for name, pairs in totals.items() if name.startswith(REJECTED)}
    return {name.removeprefix(REJECTED): pairs for name, pairs in found.items()}


def _stability(run: pb.Run) -> dict[str, float]:
    """Return the figures of a run's stability; no drift before the second window has ended."""
    found = run.stability_progress
    figures: dict[str, float] = {
        "run_windows_below_epsilon": found.windows_below,
        "run_pairs_announced": found.pairs_announced,
        "run_converged": run.stability in (pb.STABILITY_CONVERGED, pb.STABILITY_COMPLETE),
    }
    if found.drifts:
        figures["run_drift_ratio"] = found.drifts[-1]
    if run.HasField("frozen"):
        figures["run_frozen_ratio"] = _frozen_ratio(run.frozen)
    return figures


def _frozen_ratio(frozen: pb.FreezeResult) -> float:
    found = frozen.convergence
    return found.pairs_seen / found.pairs_announced if frozen.HasField("convergence") else 1.0


def _by_stage(run: pb.Run) -> dict[tuple[str, str], int]:
    sums: dict[tuple[str, str], int] = {}
    for progress in run.stages:
        for state in _STATES:
            key = (stage_name(progress.stage), state)
            sums[key] = sums.get(key, 0) + getattr(progress, state)
    return sums
