"""The sampler, parquet in and out: processor time per pair of the pool, stage by stage.

    python benchmarks/sampler.py [--rows 10000000] [--t T] [--texts POOL.parquet ...
        --metadata ENTRIES.json.gz] [--peer-rows 2000000] [--keep FOLDER] [--output FILE]

A pool with a URL and a text per row, all distinct. Its texts are made of entries drawn at the
published rates, 3.5 to a text, and of words that match nothing; or they are real captions with a
number behind. `clipcurate run` curates it; what the sampler's tasks took is read from its log. The
peer has the answer already: DuckDB on one thread reads the pool, keeps the rows that a mask names,
and writes them as parquet. The critical t of drawn pairs is timed beside a bisection.
"""

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from harness import arguments, cpu_seconds, interleaved, load, median_ratio, report
from harness.paper import ENTRIES, HITS, PAIRS, T, expected_counts
from harness.product import curate, stage_seconds
from numba import njit

from clipcurate.balancing import coins, critical_t
from clipcurate.datasets.manifest import load as load_manifest
from clipcurate.matching import Matches

ROW_GROUP = 100_000
HITS_PER_PAIR = HITS / PAIRS
FILLERS_PER_TEXT = 4
KERNEL_PAIRS = 1_000_000
_LETTERS = np.array(list("etaoinshrdlucmfwypg"))

Draw = Callable[[np.random.Generator, int, int], pa.Array]
"""Draws so many texts, given the number of the first."""


def words() -> list[str]:
    """Return ENTRIES distinct words of five letters."""
    digits = np.arange(ENTRIES)[:, None] // len(_LETTERS) ** np.arange(5) % len(_LETTERS)
    return ["".join(row) for row in _LETTERS[digits]]


def drawn_hits(rng: np.random.Generator, pairs: int, per_pair: float) -> Matches:
    """Draw hits of pairs at the published rates, independently."""
    shares = np.cumsum(expected_counts())
    hits = rng.poisson(per_pair, pairs)
    ids = np.searchsorted(shares, rng.random(int(hits.sum())) * shares[-1], side="right")
    owner = np.repeat(np.arange(pairs), hits)
    distinct = np.unique(owner * ENTRIES + ids)
    offsets = np.searchsorted(distinct, np.arange(pairs + 1) * ENTRIES)
    return Matches(offsets.astype(np.int64), (distinct % ENTRIES).astype(np.uint32))


def made_up(entries: list[str]) -> Draw:
    """Draw texts of entries at the published rates and of upper-case words."""
    known = pa.array(entries, pa.large_string())
    fillers = pc.utf8_upper(known.slice(0, 5000))

    def draw(rng: np.random.Generator, count: int, first: int) -> pa.Array:
        matches = drawn_hits(rng, count, HITS_PER_PAIR)
        chosen = rng.integers(0, len(fillers), FILLERS_PER_TEXT * count)
        bounds = np.arange(0, len(chosen) + 1, FILLERS_PER_TEXT)
        hits = _joined(known.take(pa.array(matches.entry_ids)), matches.row_offsets)
        return _numbered([hits, _joined(fillers.take(pa.array(chosen)), bounds)], count, first)

    return draw


def captions(texts: pa.Array) -> Draw:
    """Draw real texts, with a number behind that makes each its own."""

    def draw(rng: np.random.Generator, count: int, first: int) -> pa.Array:
        return _numbered([texts.take(pa.array(rng.integers(0, len(texts), count)))], count, first)

    return draw


def _joined(parts: pa.Array, bounds: npt.NDArray[np.int64]) -> pa.Array:
    lists = pa.ListArray.from_arrays(bounds.astype(np.int32), parts.cast(pa.string()))
    return pc.binary_join(lists, " ").cast(pa.large_string())


def _numbered(columns: list[pa.Array], count: int, first: int) -> pa.Array:
    numbers = pa.array([f"N-{number}" for number in range(first, first + count)], pa.large_string())
    return pc.binary_join_element_wise(*columns, numbers, pa.scalar(" ", pa.large_string()))


def write_pool(draw: Draw, rows: int, path: Path) -> None:
    """Write the pool, row group by row group."""
    rng = np.random.default_rng(0)
    schema = pa.schema([("url", pa.string()), ("text", pa.large_string())])
    unfinished = path.with_suffix(".part")
    with pq.ParquetWriter(unfinished, schema, compression="zstd") as writer:
        for first in range(0, rows, ROW_GROUP):
            count = min(ROW_GROUP, rows - first)
            names = rng.integers(0, 2**63, count)
            urls = [f"https://cdn{n % 997}.example.org/images/{n:016x}.jpg" for n in names.tolist()]
            table = pa.table([urls, draw(rng, count, first)], schema=schema)
            writer.write_table(table)
    unfinished.rename(path)


def sample(pool: Path, metadata: Path, t: float, folder: Path, rows: int) -> dict[str, Any]:
    """Run the product; return what its sampler took."""
    ours = curate(pool, metadata, t, folder)
    stages = stage_seconds(folder / ".clipcurate" / "logs" / "sampler.log")
    seconds = sum(stages.values())
    (dataset,) = (folder / "datasets").iterdir()
    return {
        "kept": load_manifest(str(dataset)).totals.kept,
        "us_per_pair": {name: round(1e6 * value / rows, 3) for name, value in stages.items()},
        "us_per_pair_in_all": round(1e6 * seconds / rows, 3),
        "pairs_per_core_second": round(rows / seconds),
        "processes": ours["processes"],
    }


def peer(pool: Path, rows: int, kept_share: float, output: Path) -> float:
    """Filter the pool's first rows by a mask with DuckDB; return processor seconds per row."""
    mask = np.random.default_rng(1).random(rows) < kept_share
    connection = duckdb.connect(config={"threads": 1})
    connection.register("mask", pa.table({"kept": mask}))
    query = (
        f"COPY (SELECT url, text FROM (SELECT * FROM '{pool}' LIMIT {rows}) "
        f"POSITIONAL JOIN mask WHERE kept) TO '{output}' (FORMAT parquet, COMPRESSION zstd)"
    )
    return cpu_seconds(lambda: connection.execute(query)) / rows


@njit(nogil=True)
def _bisection(offsets, entry_ids, counts, u, out):  # type: ignore[no-untyped-def]
    """Find critical t to nine digits, between 0 and the lowest count."""
    for row in range(out.size):
        ids = entry_ids[offsets[row] : offsets[row + 1]]
        low, high = 0.0, np.inf
        for entry in ids:
            high = min(high, float(counts[entry]))
        while ids.size and high - low > 1e-9 * high:
            middle, miss = (low + high) / 2, 1.0
            for entry in ids:
                miss *= 1.0 - middle / counts[entry]
            if miss < 1.0 - u[row]:
                high = middle
            else:
                low = middle
        out[row] = high


def kernel(per_pair: float, rounds: int) -> dict[str, Any]:
    """Time the critical t of drawn pairs beside the bisection."""
    rng = np.random.default_rng(2)
    matches = drawn_hits(rng, KERNEL_PAIRS, per_pair)
    counts: npt.NDArray[np.int64] = np.bincount(matches.entry_ids, minlength=ENTRIES)
    keys = rng.integers(0, 2**64, (KERNEL_PAIRS, 2), np.uint64)

    def bisect() -> npt.NDArray[np.float64]:
        out = np.empty(KERNEL_PAIRS)
        _bisection(matches.row_offsets, matches.entry_ids, counts, coins(keys, 0), out)
        return out

    exact = critical_t(matches, counts, keys, 0)
    assert np.allclose(exact, bisect(), rtol=1e-8)
    work = {"critical_t": lambda: critical_t(matches, counts, keys, 0), "bisection": bisect}
    seconds = interleaved(work, rounds, time.process_time)
    return {
        "hits_per_pair": round(len(matches.entry_ids) / KERNEL_PAIRS, 2),
        "pairs_per_core_second": {n: round(KERNEL_PAIRS / min(s)) for n, s in seconds.items()},
        "times_bisection": round(median_ratio(seconds["bisection"], seconds["critical_t"]), 2),
    }


@contextlib.contextmanager
def place(keep: Path | None) -> Iterator[Path]:
    """Yield a folder to work in; one that is named stays, with what it holds."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def parse() -> argparse.Namespace:
    parser = arguments(__doc__ or "")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--t", type=float, help="default: the published t, scaled to the pool")
    parser.add_argument("--peer-rows", type=int, default=2_000_000)
    parser.add_argument("--keep", type=Path, help="work here, with the pool that lies here already")
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.texts:
        entries, pools = load(args)
        draw = captions(pa.concat_arrays(list(pools.values())))
    else:
        entries = words()
        draw = made_up(entries)
    t = args.t or max(1.0, T * args.rows / PAIRS)
    with place(args.keep) as folder:
        pool, metadata = folder / f"pool-{args.rows}.parquet", folder / "entries.json"
        if not pool.exists():
            write_pool(draw, args.rows, pool)
        metadata.write_text(json.dumps(entries))
        with tempfile.TemporaryDirectory(dir=folder) as output:
            ours = sample(pool, metadata, t, Path(output), args.rows)
        rows = min(args.peer_rows, args.rows)
        theirs = peer(pool, rows, ours["kept"] / args.rows, folder / "peer.parquet")
    report(
        {
            "rows": args.rows,
            "t": t,
            "sampler": ours,
            "duckdb filter by a mask": {"us_per_pair": round(1e6 * theirs, 3)},
            "times_duckdb": round(ours["us_per_pair_in_all"] / (1e6 * theirs), 2),
            "critical_t": [kernel(hits, args.rounds) for hits in (HITS_PER_PAIR, 13)],
        },
        args.output,
    )


if __name__ == "__main__":
    main()
