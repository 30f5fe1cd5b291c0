"""The whole job: pairs per core-second for match, count and sample, and what a plain script takes.

    python benchmarks/end_to_end.py [--texts POOL.parquet ... --metadata ENTRIES.json.gz]
        [--rows 5000000] [--t 2000]

A pool of so many rows is drawn from the texts, each with a URL of its own. `clipcurate run` curates
it with as many workers as cores; processor time is that of its processes, start included. The
plain script does the same to a part of the pool, as people do it today: pyahocorasick as the
reference uses it, counts in a NumPy array, a second pass with a coin per matched entry, and
parquet out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import ahocorasick
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from harness import arguments, load, report

from clipcurate.matching import RULES

PAPER_PAIRS = 10.7e9
SCRIPT_ROWS = 100_000
ROW_GROUP = 100_000


def write_pool(texts: pa.Array, rows: int, path: Path) -> None:
    """Write rows drawn from the texts, row group by row group."""
    rng = np.random.default_rng(0)
    schema = pa.schema([("url", pa.string()), ("text", pa.large_string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(0, rows, ROW_GROUP):
            count = min(ROW_GROUP, rows - first)
            urls = [f"https://example.org/images/{first + i}.jpg" for i in range(count)]
            drawn = texts.take(pa.array(rng.integers(0, len(texts), count)))
            writer.write_table(pa.table([urls, drawn], schema=schema))


def plain_script(entries: list[str], pool: Path, t: float, output: Path) -> float:
    """Curate the first rows of a pool; return processor seconds without building the automaton."""
    rule = RULES["metaclip1"]
    automaton = ahocorasick.Automaton()
    for number, entry in enumerate(entries):
        automaton.add_word(rule.spaced_entry(entry), number)
    automaton.make_automaton()
    start = time.process_time()
    table = pq.read_table(pool).slice(0, SCRIPT_ROWS)
    hits = [
        list({number for _, number in automaton.iter(rule.spaced_text(text))})
        for text in table["text"].to_pylist()
    ]
    counts = np.zeros(len(entries), np.int64)
    for ids in hits:
        counts[ids] += 1
    keep = np.minimum(t / np.maximum(counts, 1), 1)
    rng = np.random.default_rng(0)
    kept = [bool((rng.random(len(ids)) < keep[ids]).any()) for ids in hits]
    pq.write_table(table.filter(pa.array(kept)), output)
    return time.process_time() - start


class Processes(threading.Thread):
    """Watches the processor time of all descendants of this process, by what they are."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._seen: dict[int, tuple[str, float, int]] = {}
        self._stopped = threading.Event()

    def run(self) -> None:
        """Look four times a second."""
        while not self._stopped.wait(0.25):
            for pid in self._descendants():
                self._look_at(pid)

    def stop(self) -> dict[str, dict[str, float]]:
        """Return processor seconds and the largest process's peak memory, by kind."""
        self._stopped.set()
        self.join()
        sums: dict[str, dict[str, float]] = defaultdict(lambda: {"cpu_seconds": 0.0, "peak_mb": 0})
        for kind, seconds, memory in self._seen.values():
            sums[kind]["cpu_seconds"] = round(sums[kind]["cpu_seconds"] + seconds, 1)
            sums[kind]["peak_mb"] = max(sums[kind]["peak_mb"], memory)
        return dict(sums)

    def _descendants(self) -> list[int]:
        found, queue = [], [os.getpid()]
        while queue:
            for path in Path(f"/proc/{queue.pop()}/task").glob("*/children"):
                try:
                    children = [int(pid) for pid in path.read_text().split()]
                except OSError:  # it has ended
                    continue
                found += children
                queue += children
        return found

    def _look_at(self, pid: int) -> None:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:  # it has ended
            return
        if not command[0]:  # it has ended and waits to be noticed
            return
        kind = next((a.rpartition(".")[2] for a in command if a.startswith("services.")), "")
        kind = kind or ("redis" if "redis" in command[0] else "command")
        ticks = int(fields[11]) + int(fields[12])
        peak = next((line.split()[1] for line in status.splitlines() if "VmHWM" in line), "0")
        self._seen[pid] = (kind, ticks / os.sysconf("SC_CLK_TCK"), int(peak) // 1000)


def curate(pool: Path, metadata: Path, t: float, output: Path) -> dict[str, Any]:
    """Run the product; return wall seconds and processes."""
    options = {"pool": pool, "metadata": metadata, "output": output, "t": t}
    command = [sys.executable, "-m", "clipcurate.cli.app", "run"]
    for name, value in {**options, "workers": os.cpu_count()}.items():
        command += [f"--{name}", str(value)]
    processes, start = Processes(), time.perf_counter()
    processes.start()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    return {"wall_seconds": round(wall, 1), "processes": processes.stop()}


def parse() -> argparse.Namespace:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--t", type=float, default=2000)
    return parser.parse_args()


def main() -> None:
    args = parse()
    entries, pools = load(args)
    texts = pa.concat_arrays(list(pools.values()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pool, metadata = folder / "pool.parquet", folder / "entries.json"
        write_pool(texts, args.rows, pool)
        metadata.write_text(json.dumps(entries))
        ours = curate(pool, metadata, args.t, folder / "output")
        script = plain_script(entries, pool, args.t, folder / "script.parquet")
    seconds = sum(process["cpu_seconds"] for process in ours["processes"].values())
    rate, script_rate = args.rows / seconds, SCRIPT_ROWS / script
    report(
        {
            "rows": args.rows,
            "entries": len(entries),
            "clipcurate": ours,
            "pairs_per_core_second": {"clipcurate": round(rate), "script": round(script_rate)},
            "ratio_to_script": round(rate / script_rate, 1),
            "core_hours_for_10.7_billion_pairs": {
                "clipcurate": round(PAPER_PAIRS / rate / 3600, 1),
                "script": round(PAPER_PAIRS / script_rate / 3600, 1),
            },
        },
        args.output,
    )


if __name__ == "__main__":
    main()
