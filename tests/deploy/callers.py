"""Clients under whom services are restarted: `python callers.py RUN STOP FOUND`, in a container.

Each calls one thing again and again, by the policy of docs/operations/upgrade.md, until the file
STOP is there; then what every one of them met is written to FOUND as JSON. RUN is one that is done.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa

from clipcurate.errors import LeaseLostError
from clipcurate.rpc.clients import (
    CounterClient,
    LedgerClient,
    MatcherClient,
    SamplerClient,
    TrainerClient,
)
from clipcurate.rpc.patience import patiently, resumed
from clipcurate.rpc.v1 import ledger_pb2 as pb

PAUSE = 0.02
"""Between calls, so that the services have time for more than these."""
TEXTS = [["a cat, a dog", "nothing"], ["a red house"], ["the old photo of a tree"]]
FOUND = [2, 1, 1]
"""Texts of each batch: that many rows come back."""


class Caller:
    """Makes one kind of call until told to stop; counts what came of it."""

    def __init__(self, name: str, call: Callable[[], object]) -> None:
        self.name, self._call = name, call
        self.calls, self.longest = 0, 0.0
        self.failures: list[str] = []

    def met(self) -> dict[str, object]:
        return {
            "name": self.name,
            "calls": self.calls,
            "longest_seconds": round(self.longest, 2),
            "failures": self.failures,
        }

    def run(self, stop: Path) -> None:
        while not stop.exists():
            start = time.monotonic()
            try:
                self._call()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what is counted here
                self.failures.append(f"{type(error).__name__}: {error}")
            self.calls += 1
            self.longest = max(self.longest, time.monotonic() - start)
            threading.Event().wait(PAUSE)


def deliver_late(counter: CounterClient, run_id: str) -> None:
    """Push counts for a task that is counted: the answer must be that the lease is void."""
    lease = pb.Lease(task=pb.Task(run_id=run_id, stage=pb.STAGE_MATCH), token="late")
    try:
        counter.count_task(lease, pb.MatchResult(), {})
    except LeaseLostError:
        return
    raise AssertionError("a void lease was taken")


def match_all(matcher: MatcherClient) -> None:
    found = [len(rows) for rows in resumed(lambda done: matcher.match_stream(TEXTS[done:]))]
    assert found == FOUND, found


def read_pairs(sampler: SamplerClient, run_id: str, emission: pb.Emission) -> None:
    """Read a dataset as a stream, going on from the last cursor."""
    reached = [0]

    def stream(_: int) -> Iterator[tuple[pa.Table, int]]:
        return sampler.stream_pairs(run_id, emission.key, cursor=reached[0], batch_pairs=50)

    for _, after in resumed(stream):
        reached[0] = after
    assert reached[0] == emission.published.totals.kept, reached


def callers(run_id: str) -> list[Caller]:
    ledger, counter = LedgerClient("counter:50051"), CounterClient("counter:50051")
    matcher, sampler = MatcherClient("matcher:50052"), SamplerClient("sampler:50053")
    trainer = TrainerClient("trainer:50054")
    run = patiently(lambda: ledger.get_run(run_id))
    specs = [emission.spec for emission in run.emissions]
    return [
        Caller("ListRuns", lambda: patiently(ledger.list_runs)),
        Caller("CreateRun", lambda: patiently(lambda: ledger.create_run(run_id, run.spec, specs))),
        Caller("ClaimTask", lambda: patiently(lambda: ledger.claim("caller", []))),
        Caller("GetCounts", lambda: patiently(lambda: counter.get_counts(run_id))),
        Caller("CountTask", lambda: patiently(lambda: deliver_late(counter, run_id))),
        Caller("MatchBatch", lambda: patiently(lambda: matcher.match_batch(TEXTS[0]))),
        Caller("MatchStream", lambda: match_all(matcher)),
        Caller("StreamPairs", lambda: read_pairs(sampler, run_id, run.emissions[0])),
        Caller("ListTrainings", lambda: patiently(trainer.list)),
    ]


def main() -> None:
    run_id, stop, found = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    every = callers(run_id)
    with ThreadPoolExecutor(len(every)) as pool:
        list(pool.map(lambda caller: caller.run(stop), every))
    found.write_text(json.dumps([caller.met() for caller in every]))


if __name__ == "__main__":
    main()
