"""The whole job: pairs per core-second for match, count and sample, and what a plain script takes.

    python benchmarks/end_to_end.py [--texts POOL.parquet ... --metadata ENTRIES.json.gz]
        [--rows 5000000] [--t 2000]

A pool of so many rows is drawn from the texts, each with a URL of its own. `clipcurate run` curates
it with as many workers as cores; processor time is that of its processes, start included, and by
stage that of the workers' tasks alone. The plain script does the same to a part of the pool, as
people do it today: pyahocorasick as the reference uses it, counts in a NumPy array, a second pass
with a coin per matched entry, and parquet out.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import ahocorasick
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from harness import arguments, load, report
from harness.product import curate

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
    stages = {s: round(cpu / args.rows * 1e6, 2) for s, cpu in ours["stages_cpu_seconds"].items()}
    tasks_rate = args.rows / sum(ours["stages_cpu_seconds"].values())
    rate, script_rate = args.rows / seconds, SCRIPT_ROWS / script
    report(
        {
            "rows": args.rows,
            "entries": len(entries),
            "clipcurate": ours,
            "microseconds_per_pair": {
                **stages,
                "all_processes": round(seconds / args.rows * 1e6, 2),
            },
            "pairs_per_core_second": {"clipcurate": round(rate), "script": round(script_rate)},
            "ratio_to_script": round(rate / script_rate, 1),
            "core_hours_for_10.7_billion_pairs": {
                "clipcurate": round(PAPER_PAIRS / rate / 3600, 1),
                "tasks_alone": round(PAPER_PAIRS / tasks_rate / 3600, 1),
                "script": round(PAPER_PAIRS / script_rate / 3600, 1),
            },
        },
        args.output,
    )


if __name__ == "__main__":
    main()
