"""The whole job: pairs per core-second for match, count and sample, and what a plain script takes.

    python benchmarks/end_to_end.py [--texts POOL.parquet ... --metadata ENTRIES.json.gz]
        [--rows 5000000] [--t T]

A pool of so many rows is drawn from the texts, each with a URL of its own. `clipcurate run` curates
it with as many workers as cores; processor time is that of its processes, start included, and by
stage that of the workers' tasks alone. It does so to a fifth of the pool as well, at a fifth of t,
in the same run: what the other rows cost (all processes, per pair) is what a large pool is
projected by, since starting processes and building tables takes as long for any pool. The plain
script does the same to a part of the pool, at its part of t, as people do it today: pyahocorasick
as the reference uses it, counts in a NumPy array, a second pass with a coin per matched entry, and
parquet out.

Pairs that are kept cost more, since they are written. So t is by default what keeps of the captions
of Conceptual Captions about the share that the paper keeps of its 10.7 billion matched pairs; the
results say what was kept. For 5 million rows, `--t 2000` keeps 94 %: nearly the most that a pool
can cost.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import ahocorasick
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from harness import arguments, load, report
from harness.product import curate

from clipcurate.datasets.manifest import load as load_manifest
from clipcurate.matching import RULES

PAPER_PAIRS = 10.7e9
"""Matched pairs, of which t = 170,000 keeps 2.5 billion or 23 % (MetaCLIP, arXiv 2309.16671)."""
T_PER_ROW = 65 / 5_000_000
"""Keeps 23 % of a pool drawn from Conceptual Captions' validation set, with any number of rows."""
SCRIPT_ROWS = 100_000
ROW_GROUP = 100_000
SMALLER = 5
"""How many times the pool has the rows of the smaller one."""
WARMING_ROWS = 10_000
"""Of a first run, which compiles kernels where nobody has yet, and is not counted."""


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


def parse() -> argparse.Namespace:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--t", type=float, help="for all rows; default: keeps the paper's share")
    return parser.parse_args()


def all_seconds(run: dict[str, Any]) -> float:
    """Return the processor time of all processes of a run."""
    return sum(process["cpu_seconds"] for process in run["processes"].values())


def per_pair(stages: dict[str, float], rows: int) -> dict[str, float]:
    """Return the stages' seconds as microseconds per pair."""
    return {stage: round(seconds / rows * 1e6, 2) for stage, seconds in stages.items()}


def core_hours(seconds_per_pair: float) -> float:
    """Return the core-hours for the paper's pool."""
    return round(PAPER_PAIRS * seconds_per_pair / 3600, 1)


def main() -> None:
    args = parse()
    t = args.rows * T_PER_ROW if args.t is None else args.t
    entries, pools = load(args)
    texts = pa.concat_arrays(list(pools.values()))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pool, metadata = folder / "pool.parquet", folder / "entries.json"
        write_pool(texts, args.rows, pool)
        metadata.write_text(json.dumps(entries))
        part = folder / "part.parquet"
        write_pool(texts, args.rows // SMALLER, part)
        write_pool(texts, WARMING_ROWS, folder / "warming.parquet")
        curate(folder / "warming.parquet", metadata, t, folder / "warming")
        smaller = curate(part, metadata, t / SMALLER, folder / "smaller")
        ours = curate(pool, metadata, t, folder / "output")
        (dataset,) = (folder / "output" / "datasets").iterdir()
        kept = load_manifest(str(dataset)).totals.kept
        script = plain_script(entries, pool, t * SCRIPT_ROWS / args.rows, folder / "script.parquet")
    whole, less = all_seconds(ours), all_seconds(smaller)
    marginal = (whole - less) / (args.rows - args.rows // SMALLER)
    rate, script_rate = args.rows / whole, SCRIPT_ROWS / script
    report(
        {
            "rows": args.rows,
            "t": t,
            "kept": kept,
            "kept_share": round(kept / args.rows, 3),
            "entries": len(entries),
            "clipcurate": ours,
            "clipcurate_on_a_fifth": smaller,
            "microseconds_per_pair": {
                **per_pair(ours["stages_cpu_seconds"], args.rows),
                "all_processes": round(whole / args.rows * 1e6, 2),
                "all_processes_marginal": round(marginal * 1e6, 2),
            },
            "seconds_whatever_the_pool": round(whole - marginal * args.rows, 1),
            "pairs_per_core_second": {"clipcurate": round(rate), "script": round(script_rate)},
            "ratio_to_script": round(rate / script_rate, 1),
            "ratio_to_script_marginal": round(1 / marginal / script_rate, 1),
            "core_hours_for_10.7_billion_pairs": {
                "clipcurate": core_hours(marginal),
                "at_the_cost_of_the_whole_run": core_hours(1 / rate),
                "script": core_hours(1 / script_rate),
            },
        },
        args.output,
    )


if __name__ == "__main__":
    main()
