"""Measures drift while a run's match tasks are counted: a window every so many tasks.

The counts are what Redis holds at that moment. A task that is being added just then may be in them
in part, without its pairs among those seen: little against all others, and frozen counts are never
taken from here.
"""

import threading
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from clipcurate.balancing import thresholds, thresholds_for
from clipcurate.balancing.stability import Counts, drift, projected
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.counts import CountStore
from services.counter.ledger import Ledger
from services.counter.stages import FREEZE, MATCH
from services.counter.store import Store
from services.counter.windows import WindowState, WindowStore, announced_of, rule_of


class Stability:
    """Keeps nothing: several counters may measure the same run, and one of them ends a window."""

    def __init__(self, store: Store, ledger: Ledger, counts: CountStore) -> None:
        self._windows = WindowStore(store)
        self._ledger = ledger
        self._counts = counts
        self._measuring = threading.Lock()

    def observe(self, run_id: str) -> None:
        """End a window if it is time: to be called when a match task was counted.

        Where this process is measuring already, the next task's call will do.
        """
        if self._measuring.acquire(blocking=False):
            try:
                self._observe(run_id)
            finally:
                self._measuring.release()

    def _observe(self, run_id: str) -> None:
        spec, tallies = self._ledger.spec(run_id), self._ledger.tallies(run_id)
        state, rule = self._windows.state(run_id), rule_of(spec)
        counted = tallies[MATCH].done
        if FREEZE in tallies or counted - state.tasks < rule.window_tasks(spec.num_tasks):
            return
        totals = self._ledger.totals(run_id)
        seen = totals.get("pairs", 0)
        if not seen:
            return
        sizes = {ref.language: ref.num_entries for ref in spec.metadata}
        raw = {name: self._counts.read(run_id, name, size) for name, size in sizes.items()}
        announced = announced_of(spec, totals)
        windows = state.windows
        if state.base and (base := self._windows.counts(run_id, state, sizes)):
            before = _projected(base, state.seen, state.announced)
            emissions = list(self._ledger.emissions(run_id).values())
            found = largest_drift(emissions, before, _projected(raw, seen, announced), raw, seen)
            windows = windows.ended(found, rule)
        after = WindowState("", counted, seen, announced, windows)
        if self._windows.close(run_id, state, after, raw):
            self._ledger.advance(run_id)  # converged counts may be frozen now


def _projected(raw: Counts, seen: int, announced: int) -> dict[str, npt.NDArray[np.int64]]:
    return {name: projected(array, seen, announced) for name, array in raw.items()}


def largest_drift(
    emissions: list[pb.EmissionSpec], before: Counts, after: Counts, hits: Counts, seen: int
) -> float:
    """Return the largest drift over a run's balanced emissions.

    Where none has a threshold or a tail share, t is not known: then the drift at any t.
    """
    cuts = [
        (_thresholds(emission, before), _thresholds(emission, after))
        for emission in emissions
        if emission.WhichOneof("target") in ("t", "tail_share")
    ]
    if not cuts:
        return drift(before, after, hits, seen, None)
    return max(drift(before, after, hits, seen, cut) for cut in cuts)


def _thresholds(emission: pb.EmissionSpec, counts: Counts) -> Mapping[str, float]:
    if emission.HasField("t"):
        return thresholds(counts, emission.t)
    return thresholds_for(counts, emission.tail_share)
