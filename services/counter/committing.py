"""Group commit: deliveries that wait for Redis at the same time go there as one."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from clipcurate.rpc import tracing
from services.counter.counts import Adds, CountStore
from services.counter.metrics import FLUSH_SECONDS, INCREMENTS


@dataclass
class Delivery:
    """One task's counts on their way; `repeated` is None until they are in Redis."""

    run_id: str
    task: int
    adds: Adds
    repeated: int | None = None


class GroupCommit:
    """Adds counts, one commit at a time: who gets the turn takes along all who wait."""

    def __init__(self, counts: CountStore) -> None:
        self._counts = counts
        self._waiting: list[Delivery] = []
        self._lock = threading.Lock()
        self._turn = threading.Lock()

    def add(self, run_id: str, sizes: Mapping[str, int], task: int, adds: Adds) -> int:
        """Add a task's counts; return to how many ranges they had been added before."""
        mine = Delivery(run_id, task, adds)
        with self._lock:
            self._waiting.append(mine)
        with self._turn:
            if mine.repeated is None:
                self._commit(self._take(mine), sizes)
        assert mine.repeated is not None
        return mine.repeated

    def _take(self, mine: Delivery) -> list[Delivery]:
        """Take what waits for the same run, mine first; of several deliveries of a task one."""
        with self._lock:
            others = {
                d.task: d for d in self._waiting if d.run_id == mine.run_id and d.task != mine.task
            }
            taken = [mine, *others.values()]
            self._waiting = [d for d in self._waiting if not any(d is t for t in taken)]
        return taken

    def _commit(self, deliveries: list[Delivery], sizes: Mapping[str, int]) -> None:
        """Where it fails, only the one whose turn it is says so; the others try again."""
        try:
            repeated = self._flush(deliveries, sizes)
        except BaseException:
            with self._lock:
                self._waiting += deliveries[1:]
            raise
        for delivery in deliveries:
            delivery.repeated = repeated[delivery.task]

    def _flush(self, deliveries: list[Delivery], sizes: Mapping[str, int]) -> dict[int, int]:
        """Write to Redis, measured; return per task to how many ranges it had been added before."""
        run_id = deliveries[0].run_id
        tasks = {delivery.task: delivery.adds for delivery in deliveries}
        increments = sum(len(ids) for adds in tasks.values() for ids, _ in adds.values())
        about: dict[str, str | int] = {"clipcurate.run": run_id, "clipcurate.tasks": len(tasks)}
        start = time.perf_counter()
        with tracing.span("flush", about):
            repeated = self._counts.add(run_id, sizes, tasks)
        FLUSH_SECONDS.observe(time.perf_counter() - start)
        INCREMENTS.inc(increments)
        return repeated
