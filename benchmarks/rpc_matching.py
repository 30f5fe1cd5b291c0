"""Matching through gRPC: a matcher process, one client, loopback.

    python benchmarks/rpc_matching.py [--texts POOL.parquet --metadata ENTRIES.json.gz]

MatchStream in batches of 4,096 texts, with as many streams as cores and with one; beside it the
library called directly on one core, in interleaved rounds. Then single texts by MatchBatch, one
after the other: p50 and p99.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles

import grpc
import pyarrow as pa
from grpc_health.v1 import health_pb2, health_pb2_grpc
from harness import arguments, interleaved, load, report

from clipcurate.matching import Matcher
from clipcurate.rpc.clients import MatcherClient

BATCH, BATCHES, SINGLES = 4096, 60, 3000


@contextmanager
def matcher(entries: list[str]) -> Iterator[str]:
    """Run a matcher and yield its address."""
    with tempfile.TemporaryDirectory() as folder:
        metadata, ready = Path(folder) / "entries.json", Path(folder) / "address"
        metadata.write_text(json.dumps(entries))
        settings = {
            "METADATA": json.dumps([str(metadata)]),
            "LISTEN": "127.0.0.1:0",
            "METRICS_LISTEN": "",
            "READY_FILE": str(ready),
        }
        named = {f"CLIPCURATE_MATCHER_{name}": value for name, value in settings.items()}
        process = subprocess.Popen(
            [sys.executable, "-m", "services.matcher"],
            env={**os.environ, **named},
            stderr=subprocess.DEVNULL,
        )
        try:
            while not (ready.exists() and is_healthy(ready.read_text())):
                assert process.poll() is None, "the matcher ended"
                time.sleep(0.05)
            yield ready.read_text()
        finally:
            process.terminate()
            process.wait()


def is_healthy(address: str) -> bool:
    """Return if a server says that it is ready."""
    with grpc.insecure_channel(address) as channel:
        try:
            response = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        except grpc.RpcError:
            return False
    return bool(response.status == health_pb2.HealthCheckResponse.SERVING)


def stream(address: str, batches: list[list[str]]) -> int:
    """Match batches through one stream; return the number of hits."""
    with MatcherClient(address) as client:
        return sum(len(matches.entry_ids) for matches in client.match_stream(batches))


def streams(address: str, batches: list[list[str]], number: int) -> int:
    """Match batches through several streams at once."""
    parts = [batches[first::number] for first in range(number)]
    with ThreadPoolExecutor(number) as pool:
        return sum(pool.map(lambda part: stream(address, part), parts))


def single_texts(address: str, texts: list[str]) -> dict[str, float]:
    """Return milliseconds of calls with one text each."""
    seconds = []
    with MatcherClient(address) as client:
        for number in range(SINGLES):
            start = time.perf_counter()
            client.match_batch([texts[number % len(texts)]])
            seconds.append(time.perf_counter() - start)
    cuts = quantiles(seconds[100:], n=1000)
    return {"p50": round(cuts[499] * 1e3, 2), "p99": round(cuts[989] * 1e3, 2)}


def main() -> None:
    args = arguments(__doc__).parse_args()
    entries, pools = load(args)
    name, column = next(iter(pools.items()))
    texts = column.to_pylist()
    many = (texts * -(-BATCH * BATCHES // len(texts)))[: BATCH * BATCHES]
    batches = [many[first : first + BATCH] for first in range(0, len(many), BATCH)]
    columns = [pa.array(batch, pa.large_string()) for batch in batches]
    ours, cores = Matcher.build(entries), os.cpu_count() or 1
    hits = sum(len(ours.match(part).entry_ids) for part in columns)
    with matcher(entries) as address:
        assert stream(address, batches) == hits
        work = {
            "library, one core": lambda: [ours.match(part) for part in columns],
            "MatchStream, one stream": lambda: stream(address, batches),
            f"MatchStream, {cores} streams": lambda: streams(address, batches, cores),
        }
        seconds = interleaved(work, args.rounds, time.perf_counter)
        latency = single_texts(address, texts)
    report(
        {
            "pool": name,
            "entries": len(entries),
            "texts": len(many),
            "batch": BATCH,
            "texts_per_second": {k: round(len(many) / median(s)) for k, s in seconds.items()},
            "match_batch_of_one_text_ms": latency,
        },
        args.output,
    )


if __name__ == "__main__":
    main()
