"""Load: the running services under more and more clients.

    python benchmarks/load.py [--clients 1 2 4 8 16] [--seconds 5] [--output FILE]
    python benchmarks/load.py --server HOST:PORT --matcher HOST:PORT     a deployed system

A counter over Redis as deployed (every write on disk before its reply) and a matcher, each a
process of its own on this machine, and clients in as many processes as there are cores. For every
number of clients, each calls one thing again and again: streams batches of 1,024 texts with two on
their way, matches single texts, claims a task and gives it back, claims a task and delivers the
counts of its million pairs. In the same run: a server that only sends back what it gets, with the
same options and threads, is what gRPC in Python allows. Latency is that of a call (claim and
delivery are one), or of a batch from its sending to its hits. Clients and services share the
cores, so more clients than cores make calls wait, not work.

Of a deployed system only what leaves nothing behind is called: matching, claims of no stage, and
the list of runs. Its processor time is not seen from here.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import redis
from counting import ENTRIES, counter_service, redis_server
from harness import arguments, load, report
from harness.load_clients import BATCH, DEPLOYED_KINDS, KINDS, Outcome, Targets, share
from rpc_matching import matcher

from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.store import run_prefix

RUN, TASKS = "load", 20_000
"""Of the run whose tasks are claimed: more than can be delivered."""
ECHO = """
import sys
from concurrent.futures import ThreadPoolExecutor
import grpc

class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: request)

server = grpc.server(ThreadPoolExecutor(16), handlers=[Echo()])
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
sys.stdin.read()
"""


class Processes:
    """The services' processor time and memory, by name."""

    def __init__(self) -> None:
        self._pids = {}
        for path in Path("/proc").glob("[0-9]*"):
            if name := _service(path):
                self._pids[name] = path

    def cpu_seconds(self) -> dict[str, float]:
        """Return what each has taken since its start."""
        ticks = os.sysconf("SC_CLK_TCK")
        fields = {k: (p / "stat").read_text().rpartition(")")[2] for k, p in self._pids.items()}
        return {k: sum(map(int, text.split()[11:13])) / ticks for k, text in fields.items()}

    def memory_mb(self) -> dict[str, int]:
        """Return the most memory that each has had, in 10^6 bytes."""
        lines = {k: (p / "status").read_text().splitlines() for k, p in self._pids.items()}
        peaks = {k: next(x for x in v if x.startswith("VmHWM")) for k, v in lines.items()}
        return {k: int(line.split()[1]) * 1024 // 1_000_000 for k, line in peaks.items()}

    def written(self, name: str) -> int:
        """Return how many bytes one of them has written, to files or sockets."""
        return int((self._pids[name] / "io").read_text().split()[3])


def _service(path: Path) -> str:
    """Name a child of this process that is one of the services; "" for all others."""
    try:
        parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        words = (path / "cmdline").read_text().split("\0")
    except OSError:  # it has ended
        return ""
    if parent != os.getpid():
        return ""
    if "redis" in words[0]:
        return "redis"
    if ECHO in words:
        return "echo"
    return next((w.rpartition(".")[2] for w in words if w.startswith("services.")), "")


def summary(
    outcomes: Sequence[Outcome], clients: int, pairs: int, seconds: float
) -> dict[str, Any]:
    """Return the figures of a step."""
    found = [second for outcome in outcomes for second in outcome.seconds]
    cuts = quantiles(found, n=100) if len(found) > 1 else [float("nan")] * 99
    return {
        "clients": clients,
        "calls_per_second": round(len(found) / seconds, 1),
        **({"pairs_per_second": round(len(found) * pairs / seconds)} if pairs else {}),
        "p50_ms": round(cuts[49] * 1e3, 2),
        "p99_ms": round(cuts[98] * 1e3, 2),
        "errors": sum(outcome.errors for outcome in outcomes),
    }


def step(
    pool: ProcessPoolExecutor,
    kind: tuple[Any, int],
    targets: Targets,
    texts: Sequence[str],
    clients: int,
    seconds: float,
) -> dict[str, Any]:
    """Have so many clients call for so long; return what came of it, and who was how busy."""
    cores, processes = os.cpu_count() or 1, Processes()
    shares = [len(range(number, clients, cores)) for number in range(cores)]
    before, start = processes.cpu_seconds(), time.perf_counter()
    futures = [pool.submit(share, kind[0], targets, texts, part, seconds) for part in shares]
    outcomes = [future.result() for future in futures]
    wall, after = time.perf_counter() - start, processes.cpu_seconds()
    busy = {name: (after[name] - spent) / wall for name, spent in before.items()}
    busy["clients"] = sum(outcome.cpu_seconds for outcome in outcomes) / wall
    figures = summary(outcomes, clients, kind[1], wall)
    return figures | {"cores_busy": {k: v for k, v in rounded(busy).items() if v}}


def rounded(values: Mapping[str, float]) -> dict[str, float]:
    """Return hundredths."""
    return {name: round(value, 2) for name, value in values.items()}


@contextmanager
def echo_server() -> Iterator[str]:
    """Run the peer and yield its address."""
    command = [sys.executable, "-c", ECHO]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield f"127.0.0.1:{process.stdout.readline().strip()}"
        process.communicate()


@contextmanager
def own_system(entries: list[str]) -> Iterator[Targets]:
    """Run a counter over Redis, a matcher and the peer; make the run whose tasks are claimed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(redis_server(folder))
        counter = stack.enter_context(counter_service(folder, url))
        targets = Targets(
            counter,
            stack.enter_context(matcher(entries)),
            stack.enter_context(echo_server()),
            url,
        )
        metadata = [pb.MetadataRef(language="all", fingerprint="f", num_entries=ENTRIES)]
        spec = pb.RunSpec(output_url="/none", num_tasks=TASKS, metadata=metadata)
        with LedgerClient(counter) as ledger:
            ledger.create_run(RUN, spec, [])
        yield targets


def redis_sizes(targets: Targets, written: int) -> dict[str, float]:
    """Return the bytes that Redis holds of a task and of a range, and has written per task."""
    prefix = run_prefix(RUN)
    with redis.Redis.from_url(targets.redis) as client, LedgerClient(targets.counter) as ledger:
        counted = ledger.get_run(RUN).stages[0].done
        queue = f"{prefix}queue:{pb.STAGE_MATCH}"
        waiting = client.memory_usage(queue, samples=0) / client.zcard(queue)
        done = next(
            record.task.index
            for record in ledger.list_tasks(RUN, pb.STAGE_MATCH)
            if record.state == pb.TASK_STATE_DONE
        )
        return {
            "bytes_per_waiting_task": round(waiting),
            "bytes_per_counted_task": client.memory_usage(f"{prefix}task:{pb.STAGE_MATCH}::{done}"),
            "bytes_per_range": client.memory_usage(f"{prefix}counts:all:0"),
            "written_mb_per_counted_task": round(written / counted / 1e6, 2),
            "counted_tasks": counted,
        }


def parse() -> argparse.Namespace:
    parser = arguments(__doc__ or "")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--seconds", type=float, default=5.0, help="of each step")
    parser.add_argument("--server", help="a deployed counter; with --matcher")
    parser.add_argument("--matcher", help="a deployed matcher that holds one list of metadata")
    return parser.parse_args()


def measure(
    args: argparse.Namespace, targets: Targets, kinds: Mapping[str, Any], texts: list[str]
) -> dict[str, Any]:
    """Go through all kinds and numbers of clients."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=spawn) as pool:
        found = {}
        for name, kind in kinds.items():
            step(pool, kind, targets, texts, os.cpu_count() or 1, 1.0)  # imports, made-up tasks
            found[name] = [
                step(pool, kind, targets, texts, clients, args.seconds) for clients in args.clients
            ]
        return {"steps": found, "peak_memory_mb": Processes().memory_mb()}


def main() -> None:
    args = parse()
    entries, pools = load(args)
    name, column = next(iter(pools.items()))
    texts = column.slice(0, BATCH).to_pylist()
    about: dict[str, Any] = {"pool": name, "seconds_per_step": args.seconds, "batch": BATCH}
    if args.server:
        targets = Targets(args.server, args.matcher)
        report(about | measure(args, targets, DEPLOYED_KINDS, texts), args.output)
        return
    with own_system(entries) as targets:
        about["entries"] = len(entries)
        found = measure(args, targets, KINDS, texts)
        found["redis"] = redis_sizes(targets, Processes().written("redis"))
        report(about | found, args.output)


if __name__ == "__main__":
    main()
