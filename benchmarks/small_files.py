"""A pool of many small files: what planning, the ledger and Redis take, and a plain reader.

    python benchmarks/small_files.py [--files 10000] [--file-rows 100] [--task-rows 10000]
        [--texts POOL.parquet ... --metadata ENTRIES.json.gz]

Tasks are made small, so that there are as many as a large pool has. What depends on the number of
files (planning, reading) and what depends on the number of tasks (calls, Redis) is projected apart,
to 10^6 such files in tasks of a million rows. The plain reader opens and reads the files one by one
with pyarrow, and does nothing with them.
"""

import argparse
import json
import os
import socket
import tempfile
import time
import urllib.request
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import redis
from harness import arguments, cpu_seconds, load, peak_memory_mb, report
from harness.product import Processes, all_stage_seconds

from clipcurate.cli.local import LocalStack, StackOptions, local_stack
from clipcurate.cli.options import run_request
from clipcurate.cli.submission import Submission, prepare
from clipcurate.datasets.request import EmissionRequest
from clipcurate.pools import Columns
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.v1 import ledger_pb2 as pb

FILES, TASK_ROWS = 1_000_000, 1_000_000
CALLS = "clipcurate_grpc_calls_total{"


def write_pool(texts: pa.Array, files: int, rows: int, folder: Path) -> None:
    """Write files of rows drawn from the texts."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(files):
        urls = [f"https://example.org/{number}/{row}.jpg" for row in range(rows)]
        drawn = texts.take(pa.array(rng.integers(0, len(texts), rows)))
        pq.write_table(pa.table({"url": urls, "text": drawn}), folder / f"{number:07d}.parquet")


def read_plainly(folder: Path) -> None:
    """Read all files one by one."""
    for path in sorted(folder.iterdir()):
        pq.read_table(path, use_threads=False)


def plan(pool: Path, metadata: Path, output: Path, task_rows: int) -> tuple[Submission, Any]:
    """Plan the run; return it and what that took."""
    request = run_request(
        [str(pool)], Columns(), [str(metadata)], False, str(output), task_rows=task_rows
    )
    start, cpu = time.perf_counter(), time.process_time()
    wanted = prepare(request, [EmissionRequest("balanced", t=20.0)])
    took = {
        "wall_seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "plan_bytes": wanted.spec.plan.size,
        "peak_mb": peak_memory_mb(),
    }
    return wanted, took


def follow(stack: LocalStack, wanted: Submission) -> dict[str, float]:
    """Do the run; return the wall seconds at which each stage was finished."""
    start = time.perf_counter()
    ends: dict[str, float] = {}
    with LedgerClient(stack.counter) as ledger:
        ledger.create_run(wanted.run_id, wanted.spec, wanted.emissions)
        for run in ledger.watch_run(wanted.run_id, 0.2):
            for stage in run.stages:
                name = pb.Stage.Name(stage.stage).removeprefix("STAGE_").lower()
                if stage.done == stage.total:
                    ends.setdefault(name, round(time.perf_counter() - start, 2))
    assert run.state == pb.RUN_STATE_DONE, run.problems
    return ends


def redis_figures(stack: LocalStack) -> dict[str, Any]:
    """Return Redis's commands and processor seconds."""
    environments = [child.environment for child in stack.supervisor.children]
    (url,) = [e[name] for e in environments for name in e if name.endswith("_REDIS_URL")]
    client: Any = redis.Redis.from_url(url)
    cpu, stats = client.info("cpu"), client.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): figures["calls"] for name, figures in stats.items()}
    return {
        "cpu_seconds": round(cpu["used_cpu_sys"] + cpu["used_cpu_user"], 2),
        "commands": sum(calls.values()),
        "most": dict(sorted(calls.items(), key=lambda item: -item[1])[:10]),
    }


def calls_by_method(port: int) -> dict[str, int]:
    """Return the finished calls of the counter, from its metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        lines = response.read().decode().splitlines()
    calls: dict[str, int] = defaultdict(int)
    for line in lines:
        if line.startswith(CALLS):
            method = line.partition('method="')[2].partition('"')[0].rpartition("/")[2]
            calls[method] += int(float(line.rpartition(" ")[2]))
    return dict(calls)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def measure(wanted: Submission, state: Path) -> dict[str, Any]:
    """Do the run with all services; return what it took."""
    port, processes = free_port(), Processes()
    os.environ["CLIPCURATE_COUNTER_METRICS_LISTEN"] = f"127.0.0.1:{port}"
    processes.start()
    with local_stack(StackOptions(state, workers=os.cpu_count() or 1)) as stack:
        ends = follow(stack, wanted)
        figures = {"redis": redis_figures(stack), "calls": calls_by_method(port)}
    return {
        "stages_end_at_seconds": ends,
        "stages_cpu_seconds": all_stage_seconds(state),
        "processes": processes.stop(),
        **figures,
    }


def parse() -> argparse.Namespace:
    parser = arguments(__doc__ or "")
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--file-rows", type=int, default=100)
    parser.add_argument("--task-rows", type=int, default=10_000)
    return parser.parse_args()


def main() -> None:
    args = parse()
    entries, pools = load(args)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pool, metadata = folder / "pool", folder / "entries.json"
        write_pool(pa.concat_arrays(list(pools.values())), args.files, args.file_rows, pool)
        metadata.write_text(json.dumps(entries))
        wanted, planning = plan(pool, metadata, folder / "output", args.task_rows)
        run = measure(wanted, folder / "state")
        plain = cpu_seconds(lambda: read_plainly(pool))
    tasks, files = wanted.spec.num_tasks, FILES / args.files
    more = FILES * args.file_rows / TASK_ROWS / tasks
    report(
        {
            "files": args.files,
            "rows": args.files * args.file_rows,
            "match_tasks": tasks,
            "planning": planning,
            "run": run,
            "plain_reader_cpu_seconds": round(plain, 2),
            "match_to_plain_reader": round(run["stages_cpu_seconds"]["match"] / plain, 2),
            "projected_to_10^6_files": {
                "match_tasks": round(tasks * more),
                "planning_cpu_seconds": round(planning["cpu_seconds"] * files),
                "plan_bytes": round(planning["plan_bytes"] * files),
                "match_cpu_hours": round(run["stages_cpu_seconds"]["match"] * files / 3600, 2),
                "calls": round(sum(run["calls"].values()) * more),
                "redis_commands": round(run["redis"]["commands"] * more),
                "redis_cpu_seconds": round(run["redis"]["cpu_seconds"] * more, 1),
            },
        },
        args.output,
    )


if __name__ == "__main__":
    main()
