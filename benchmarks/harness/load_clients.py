"""The clients of `load.py`: each kind calls one thing again and again, and takes the time."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import grpc
from counting import made_up_tasks

from clipcurate.errors import ClipcurateError
from clipcurate.rpc.clients import CounterClient, LedgerClient, MatcherClient
from clipcurate.rpc.clients.base import open_channel
from clipcurate.rpc.settings import SecuritySettings
from clipcurate.rpc.v1 import ledger_pb2 as pb

BATCH, IN_FLIGHT, PAIRS_PER_TASK = 1024, 2, 1_000_000
INDEX_URL = f"s3://bucket/folder/output/runs/{'0' * 32}/index/000000-{'0' * 32}.arrow"
"""As long as a run's are: the ledger keeps it."""
ECHO_BYTES = b"x" * 1000

Record = Callable[[float], None]


@dataclass(frozen=True)
class Targets:
    """Addresses of the services; of a deployed system there is no echo, and TLS may be."""

    counter: str
    matcher: str
    echo: str = ""
    redis: str = ""

    @property
    def security(self) -> SecuritySettings | None:
        """Of a deployed system, what the environment says."""
        return None if self.echo else SecuritySettings()


@dataclass
class Outcome:
    """What the clients of one process met in one step."""

    seconds: list[float] = field(default_factory=list)
    errors: int = 0
    cpu_seconds: float = 0.0


class Clients:
    """The kinds of client. Each calls until `end` and says of every call how long it took."""

    def __init__(self, targets: Targets, texts: Sequence[str], end: float) -> None:
        self._targets = targets
        self._texts = texts
        self._end = end

    def echo(self, record: Record) -> None:
        """Have 1,000 bytes sent back."""
        with open_channel(self._targets.echo) as channel:
            call = channel.unary_unary("/echo/Echo", bytes, bytes)
            self._repeat(lambda: call(ECHO_BYTES), record)

    def match_batch(self, record: Record) -> None:
        """Match one text."""
        with MatcherClient(self._targets.matcher, self._targets.security) as client:
            self._repeat(lambda: client.match_batch(self._texts[:1]), record)

    def match_stream(self, record: Record) -> None:
        """Match batches, two of them on their way."""
        sent: deque[float] = deque()
        free = threading.Semaphore(IN_FLIGHT)
        batch = list(self._texts[:BATCH])

        def batches() -> Iterator[list[str]]:
            while time.perf_counter() < self._end and free.acquire(timeout=1):
                sent.append(time.perf_counter())
                yield batch

        with MatcherClient(self._targets.matcher, self._targets.security) as client:
            for _ in client.match_stream(batches()):
                record(time.perf_counter() - sent.popleft())
                free.release()

    def claim_and_release(self, record: Record) -> None:
        """Claim a task and give it back."""
        with LedgerClient(self._targets.counter) as ledger:
            self._repeat(lambda: ledger.release(_claimed(ledger)), record)

    def claim_and_count(self, record: Record) -> None:
        """Claim a task and deliver its counts."""
        ids, counts = _tasks()[0]
        result = pb.MatchResult(
            pairs=PAIRS_PER_TASK,
            matched=PAIRS_PER_TASK,
            hits={"all": int(counts.sum())},
            planned_rows=PAIRS_PER_TASK,
            index=pb.ObjectRef(url=INDEX_URL, hash="0" * 32, size=PAIRS_PER_TASK),
        )
        target = self._targets.counter
        with LedgerClient(target) as ledger, CounterClient(target) as counter:
            self._repeat(
                lambda: counter.count_task(_claimed(ledger), result, {"all": (ids, counts)}), record
            )

    def claim_nothing(self, record: Record) -> None:
        """Claim a task of no stage."""
        with LedgerClient(self._targets.counter, self._targets.security) as ledger:
            self._repeat(lambda: ledger.claim("load", []), record)

    def list_runs(self, record: Record) -> None:
        """List the runs."""
        with LedgerClient(self._targets.counter, self._targets.security) as ledger:
            self._repeat(ledger.list_runs, record)

    def _repeat(self, call: Callable[[], object], record: Record) -> None:
        while (start := time.perf_counter()) < self._end:
            call()
            record(time.perf_counter() - start)


@cache
def _tasks() -> list[Any]:
    return made_up_tasks()


def _claimed(ledger: LedgerClient) -> pb.Lease:
    claimed = ledger.claim("load", [pb.STAGE_MATCH])
    assert claimed is not None, "all tasks are done: raise TASKS"
    return claimed.lease


KINDS = {
    "echo": (Clients.echo, 0),
    "MatchStream": (Clients.match_stream, BATCH),
    "MatchBatch": (Clients.match_batch, 1),
    "ClaimTask+ReleaseTask": (Clients.claim_and_release, 0),
    "ClaimTask+CountTask": (Clients.claim_and_count, PAIRS_PER_TASK),
}
"""What clients do, and how many pairs a call is about."""
DEPLOYED_KINDS = {
    "MatchStream": (Clients.match_stream, BATCH),
    "MatchBatch": (Clients.match_batch, 1),
    "ClaimTask": (Clients.claim_nothing, 0),
    "ListRuns": (Clients.list_runs, 0),
}


def share(
    client: Callable[[Clients, Record], None],
    targets: Targets,
    texts: Sequence[str],
    number: int,
    seconds: float,
) -> Outcome:
    """Run one process's share of the clients, each a thread with a connection of its own."""
    found, start = Outcome(), time.process_time()
    end = time.perf_counter() + seconds

    def run(_: int) -> None:
        while time.perf_counter() < end:
            try:
                client(Clients(targets, texts, end), found.seconds.append)
            except (ClipcurateError, grpc.RpcError):
                found.errors += 1

    if number:
        with ThreadPoolExecutor(number) as pool:
            list(pool.map(run, range(number)))
    found.cpu_seconds = time.process_time() - start
    return found
