"""Capacity: what pools of some sizes need, from the figures in benchmarks/results.

    python benchmarks/capacity.py [--pairs 1e7 1e9 1e10] [--kept 0.25] [--hours 1] [--figures FILE]

Prints the table of docs/operations/capacity.md, which says what each figure is; a test holds the
two together. `--figures` is a JSON file with some of `Figures`' fields, measured on your hardware.
"""

import argparse
import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
KEPT_FEW = "end_to_end-xeon-2cores-2026-11-28.json"
KEPT_MOST = "end_to_end-t2000-xeon-2cores-2026-11-28.json"
COUNTING = "counting-xeon-2cores-2026-11-28.json"
LOAD = "load-xeon-2cores-2026-11-28.json"
BILLION = 1e9
PAIRS = (1e7, 1e9, 1e10)
RANGE, COUNT_BYTES = 8192, 8
STAGES_WITH_TASKS = 3
"""MATCH, SCORE and WRITE have as many tasks as the pool, or fewer."""


@dataclass(frozen=True)
class Figures:
    """What is measured; microseconds are of one core, bytes are written."""

    match_us_per_pair: float
    sample_us_per_pair: float
    sample_us_per_kept_pair: float
    index_bytes_per_pair: float
    score_bytes_per_pair: float
    dataset_bytes_per_kept_pair: float
    counted_tasks_per_second: float
    redis_bytes_per_task: float
    redis_written_mb_per_task: float


@dataclass(frozen=True)
class Wanted:
    """What is asked for. Half of a core's time is for waiting, for storage above all."""

    pairs: float
    kept: float = 0.25
    hours: float = 1.0
    entries: int = 500_000
    pairs_per_task: float = 1e6
    busy: float = 0.5


def measured() -> Figures:
    """Read the figures from the results."""
    few, most, counting, load = map(_result, (KEPT_FEW, KEPT_MOST, COUNTING, LOAD))
    scores, dataset = _line(few, most, _written("sampler"))
    sample, sample_kept = _line(few, most, _sampling)
    increments = counting["increments_per_second"]["gRPC"] / counting["increments_per_task"]
    return Figures(
        match_us_per_pair=few["microseconds_per_pair"]["match"],
        sample_us_per_pair=sample,
        sample_us_per_kept_pair=sample_kept,
        index_bytes_per_pair=_written("matcher")(few),
        score_bytes_per_pair=scores,
        dataset_bytes_per_kept_pair=dataset,
        counted_tasks_per_second=increments,
        redis_bytes_per_task=load["redis"]["bytes_per_counted_task"],
        redis_written_mb_per_task=load["redis"]["written_mb_per_counted_task"],
    )


def _result(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / name).read_text())
    return found


def _sampling(result: Mapping[str, Any]) -> float:
    stages = result["microseconds_per_pair"]
    return float(sum(stages[name] for name in ("score", "plan", "write", "publish")))


def _written(process: str) -> Any:
    """Return what reads the bytes per pair that a process wrote, beyond those of a fifth."""

    def read(result: Mapping[str, Any]) -> float:
        runs = (result["clipcurate"], result["clipcurate_on_a_fifth"])
        whole, fifth = (run["processes"][process]["written_mb"] * 1e6 for run in runs)
        return float((whole - fifth) / (result["rows"] * 4 / 5))

    return read


def _line(few: Mapping[str, Any], most: Mapping[str, Any], value: Any) -> tuple[float, float]:
    """Return what a pair costs, and what it costs more if it is kept, from two shares kept."""
    slope = (value(most) - value(few)) / (most["kept_share"] - few["kept_share"])
    return value(few) - slope * few["kept_share"], slope


def needs(wanted: Wanted, found: Figures) -> dict[str, str]:
    """Return what a pool needs, by the words of the table."""
    pairs, kept = wanted.pairs, wanted.pairs * wanted.kept
    tasks = math.ceil(pairs / wanted.pairs_per_task)
    match = pairs * found.match_us_per_pair / 1e6
    sample = (pairs * found.sample_us_per_pair + kept * found.sample_us_per_kept_pair) / 1e6
    seconds = wanted.hours * 3600 * wanted.busy
    matchers, samplers = (math.ceil(cpu / seconds) for cpu in (match, sample))
    arriving = matchers * wanted.busy / (wanted.pairs_per_task * found.match_us_per_pair / 1e6)
    counters = max(2, math.ceil(arriving / (found.counted_tasks_per_second * wanted.busy)))
    counts = math.ceil(wanted.entries / RANGE) * RANGE * COUNT_BYTES
    memory = 2 * counts + STAGES_WITH_TASKS * tasks * found.redis_bytes_per_task
    return {
        "tasks": f"{tasks:,}",
        "core-hours to match": f"{match / 3600:.3g}",
        "core-hours to sample": f"{sample / 3600:.3g}",
        "matchers of one core": f"{matchers:,}",
        "samplers of one core": f"{samplers:,}",
        "minutes to match": f"{match / matchers / wanted.busy / 60:.2g}",
        "minutes to sample": f"{sample / samplers / wanted.busy / 60:.2g}",
        "tasks delivered per second": f"{arriving:.2g}",
        "counters": f"{counters}",
        "Redis, held in memory": size(memory),
        "Redis, written in all": size(tasks * found.redis_written_mb_per_task * 1e6),
        "match indexes": size(pairs * found.index_bytes_per_pair),
        "scores": size(pairs * found.score_bytes_per_pair),
        "dataset": size(kept * found.dataset_bytes_per_kept_pair),
    }


def number(count: float) -> str:
    """Return a number of pairs for people."""
    return f"{count / BILLION:g} billion" if count >= BILLION else f"{count / 1e6:g} million"


def size(count: float) -> str:
    """Return a number of bytes for people."""
    unit, bytes_of = next(
        ((name, value) for name, value in (("TB", 1e12), ("GB", 1e9)) if count >= value),
        ("MB", 1e6),
    )
    digits = 1 - math.floor(math.log10(count / bytes_of))
    return f"{round(count / bytes_of, digits):g} {unit}"


def table(columns: Sequence[Wanted], found: Figures) -> str:
    """Return the table, a column per pool."""
    filled = [needs(wanted, found) for wanted in columns]
    heading = [f"{number(wanted.pairs)} pairs" for wanted in columns]
    rows = [[name, *(column[name] for column in filled)] for name in filled[0]]
    lines = [["", *heading], ["---"] * (len(columns) + 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def listed(found: Figures) -> str:
    """Return the figures, one a line."""
    values = dataclasses.asdict(found).items()
    return "\n".join(f"    {name:30} {value:.4g}" for name, value in values)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=float, nargs="*", default=PAIRS)
    parser.add_argument("--kept", type=float, default=Wanted.kept, help="share of the pairs")
    parser.add_argument("--hours", type=float, default=Wanted.hours, help="for each of the passes")
    parser.add_argument("--entries", type=int, default=Wanted.entries)
    parser.add_argument("--figures", type=Path)
    args = parser.parse_args()
    found = measured()
    if args.figures:
        found = dataclasses.replace(found, **json.loads(args.figures.read_text()))
    columns = [Wanted(pairs, args.kept, args.hours, args.entries) for pairs in args.pairs]
    print(f"{table(columns, found)}\n\n{listed(found)}")


if __name__ == "__main__":
    main()
