"""What benchmarks share: real or made-up texts, interleaved rounds, results with their hardware."""

import argparse
import datetime
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from clipcurate import metadata

# Scripts are run by their path; pools and images are made as the demo and the tests make them.
sys.path.append(str(Path(__file__).parents[2]))

TEXTS = 20_000


def arguments(description: str) -> argparse.ArgumentParser:
    """Return a parser of what all benchmarks of matching take."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", nargs="*", default=[], help="parquet files with a column `text`")
    parser.add_argument("--metadata", help="entries; with --texts")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="write the results here too, as JSON")
    return parser


def load(args: argparse.Namespace) -> tuple[list[str], dict[str, pa.Array]]:
    """Return entries, and texts by the name of their pool; made-up ones if none are given."""
    if not args.texts:
        return made_up(random.Random(0))
    entries = list(metadata.load(args.metadata).entries)
    return entries, {Path(path).stem: texts_of(path) for path in args.texts}


def texts_of(path: str) -> pa.Array:
    """Return the first texts of a pool."""
    column = pq.read_table(path, columns=["text"])["text"].drop_null().slice(0, TEXTS)
    return column.combine_chunks().cast(pa.large_string())


def made_up(rng: random.Random) -> tuple[list[str], dict[str, pa.Array]]:
    """Return 500,000 entries and texts of 10 words over one Zipf-distributed vocabulary."""
    letters = "etaoinshrdlucmfwyp"
    words = list({"".join(rng.choices(letters, k=rng.randrange(2, 10))) for _ in range(300_000)})
    weights = list(accumulate(1 / (rank + 1) for rank in range(len(words))))
    entries = list(dict.fromkeys(words + [" ".join(rng.choices(words, k=2)) for _ in words]))
    texts = [" ".join(rng.choices(words, cum_weights=weights, k=10)) for _ in range(TEXTS)]
    return entries[:500_000], {"made up": pa.array(texts, pa.large_string())}


def interleaved(
    work: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Run everything once per round, in turn; return seconds by name."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, run in work.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return seconds


def median_ratio(over: list[float], under: list[float]) -> float:
    """Return the median over rounds of one's time over the other's."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def cpu_seconds(run: Callable[[], object]) -> float:
    """Return the processor time of one run."""
    start = time.process_time()
    run()
    return time.process_time() - start


def peak_memory_mb() -> int:
    """Return the most memory that this process has had, in 10^6 bytes."""
    status = Path("/proc/self/status").read_text()
    kilobytes = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes.split()[1]) * 1024 // 1_000_000


def report(results: Mapping[str, Any], output: Path | None) -> None:
    """Print results with date, commit and hardware, and write them if asked to."""
    text = json.dumps({**_provenance(), **results}, indent=2, ensure_ascii=False)
    print(text)
    if output:
        output.write_text(text + "\n")


def _provenance() -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": commit.stdout.strip(),
        "cpu": cpu[0].partition(": ")[2] if cpu else platform.processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
