"""Counting: tasks' sparse counts into one Redis, beside pipelined HINCRBY in the same run.

    python benchmarks/counting.py [--rounds 5] [--output FILE]

Made-up tasks as matchers send them: a million pairs with 3.5 hits each, distributed over 500,000
entries as in the paper. An increment is one (task, entry) with its count. Redis runs as deployed,
every write on disk before its reply. In interleaved rounds: HINCRBY in pipelines of 10,000, the
counter's store called directly, and a counter process over gRPC with as many workers as cores.
Meanwhile another process asks Redis for a small key, once a millisecond: p50 and p99 of its
waiting. Every round begins with an empty Redis and ends with a comparison of all counts.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import numpy as np
import numpy.typing as npt
import redis
from harness import arguments, median_ratio, report

from clipcurate.cli.local import redis_binary, serves
from clipcurate.rpc.clients import CounterClient, LedgerClient
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.counts import CountStore, Sparse
from services.counter.store import Store

ENTRIES, TASKS, HITS = 500_000, 10, 3_500_000
HEAD, HEAD_SHARE, TAIL = 16_000, 0.944, 370_000
PEER_TASKS = 1
"""HINCRBY takes a second or two for each."""
RUN, SIZES = "benchmark", {"all": ENTRIES}
PROBE = """
import json, sys, time, redis
client, seconds, end = redis.Redis.from_url(sys.argv[1]), [], False
client.set("probe", "x")
print("ready", flush=True)
while not client.exists("probe:end"):
    start = time.perf_counter()
    client.get("probe")
    seconds.append(time.perf_counter() - start)
    time.sleep(0.001)
print(json.dumps(seconds))
"""


def made_up_tasks() -> list[Sparse]:
    """Return the counts of some tasks, distributed as the paper says of its pool.

    16,000 entries have 94.4% of the hits, falling as 1 / (rank + 10); 114,000 have none; the rest
    shares what remains.
    """
    rng = np.random.default_rng(0)
    head = 1 / (np.arange(HEAD) + 10.0)
    shares = [HEAD_SHARE * head / head.sum(), np.full(TAIL, (1 - HEAD_SHARE) / TAIL)]
    edges = np.cumsum(np.concatenate(shares))
    place = rng.permutation(ENTRIES)
    drawn = (rng.random(HITS) * edges[-1] for _ in range(TASKS))
    return [_sparse(place[np.searchsorted(edges, numbers)]) for numbers in drawn]


def _sparse(entries: npt.NDArray[np.int64]) -> Sparse:
    ids, counts = np.unique(entries, return_counts=True)
    return ids.astype(np.uint32), counts.astype(np.uint32)


@contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Run Redis as `clipcurate run` does and yield its URL."""
    socket = folder / "redis.sock"
    command = [redis_binary(), "--port", "0", "--unixsocket", str(socket), "--dir", str(folder)]
    command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while not socket.exists():
            time.sleep(0.02)
        try:
            yield f"unix://{socket}"
        finally:
            process.terminate()


@contextmanager
def counter_service(folder: Path, url: str) -> Iterator[str]:
    """Run a counter and yield its address."""
    ready = folder / "address"
    settings = {"REDIS_URL": url, "LISTEN": "127.0.0.1:0", "READY_FILE": str(ready)}
    named = {f"CLIPCURATE_COUNTER_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "services.counter"]
    environment = {**os.environ, **named}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        while not ready.exists():
            time.sleep(0.05)
        assert serves(ready.read_text(), 30)
        try:
            yield ready.read_text()
        finally:
            process.terminate()


def hincrby(client: redis.Redis, tasks: list[Sparse]) -> None:
    """Count with a hash, one HINCRBY per increment, 10,000 in a pipeline."""
    for ids, counts in tasks:
        adds = list(zip(ids.tolist(), counts.tolist(), strict=True))
        for first in range(0, len(adds), 10_000):
            pipe = client.pipeline(transaction=False)
            for entry, count in adds[first : first + 10_000]:
                pipe.hincrby("counts", entry, count)
            pipe.execute()


def store_level(store: Store, tasks: list[Sparse]) -> None:
    """Count through the counter's store, a task at a time."""
    for number, task in enumerate(tasks):
        CountStore(store).add(RUN, SIZES, {number: {"all": task}})


def over_grpc(address: str, tasks: list[Sparse], workers: int) -> None:
    """Register a run, claim its tasks and deliver their counts, from several workers at once."""
    metadata = [pb.MetadataRef(language="all", fingerprint="f", num_entries=ENTRIES)]
    spec = pb.RunSpec(output_url="/none", num_tasks=len(tasks), metadata=metadata)
    with LedgerClient(address) as ledger:
        ledger.create_run(RUN, spec, [])

    def work(name: int) -> None:
        with LedgerClient(address) as ledger, CounterClient(address) as counter:
            while claimed := ledger.claim(str(name), [pb.STAGE_MATCH]):
                task = tasks[claimed.lease.task.index]
                result = pb.MatchResult(hits={"all": int(task[1].sum())})
                counter.count_task(claimed.lease, result, {"all": task})

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))


class Observed:
    """Runs work on an empty Redis, while another process asks it for a small key."""

    def __init__(self, client: redis.Redis, url: str) -> None:
        self._client, self._url = client, url
        self.waits: dict[str, list[float]] = {}
        self.seconds: dict[str, list[float]] = {}

    def run(self, name: str, work: Callable[[], object], check: Callable[[], object]) -> None:
        """Do the work once, take its time and the other process's, check its counts."""
        self._client.flushall()
        command = [sys.executable, "-c", PROBE, self._url]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as probe:
            assert probe.stdout is not None
            probe.stdout.readline()
            start = time.perf_counter()
            try:
                work()
                self.seconds.setdefault(name, []).append(time.perf_counter() - start)
            finally:
                self._client.set("probe:end", 1)
            self.waits.setdefault(name, []).extend(json.loads(probe.stdout.readline()))
        check()

    def latency_ms(self, name: str) -> dict[str, float]:
        """Return what the other process waited."""
        cuts = quantiles(self.waits[name], n=1000)
        return {f"p{p / 10:g}": round(cuts[p - 1] * 1e3, 2) for p in (500, 990)}


def main() -> None:
    args = arguments(__doc__).parse_args()
    tasks = made_up_tasks()
    total = np.zeros(ENTRIES, np.int64)
    for ids, counts in tasks:
        total[ids] += counts
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as url:
        store, client = Store(url), redis.Redis.from_url(url)
        observed = Observed(client, url)

        def same_hash() -> None:
            found = {int(k): int(v) for k, v in client.hgetall("counts").items()}
            assert found == dict(zip(tasks[0][0].tolist(), tasks[0][1].tolist(), strict=True))

        def same_ranges() -> None:
            assert np.array_equal(CountStore(store).read(RUN, "all", ENTRIES), total)

        with counter_service(Path(name), url) as address:
            for _ in range(args.rounds):
                observed.run("HINCRBY", lambda: hincrby(client, tasks[:PEER_TASKS]), same_hash)
                observed.run("store", lambda: store_level(store, tasks), same_ranges)
                observed.run("gRPC", lambda: over_grpc(address, tasks, cores), same_ranges)
        store.redis.close()
    per_task = sum(len(ids) for ids, _ in tasks) / TASKS
    done = {"HINCRBY": PEER_TASKS * per_task, "store": TASKS * per_task, "gRPC": TASKS * per_task}
    rates = {k: [done[k] / s for s in seconds] for k, seconds in observed.seconds.items()}
    report(
        {
            "tasks": TASKS,
            "increments_per_task": round(per_task),
            "increments_per_second": {k: round(median(r)) for k, r in rates.items()},
            "times_hincrby": {
                k: round(median_ratio(rates[k], rates["HINCRBY"]), 1) for k in ("store", "gRPC")
            },
            "others_wait_ms": {k: observed.latency_ms(k) for k in rates},
        },
        args.output,
    )


if __name__ == "__main__":
    main()
