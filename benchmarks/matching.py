"""Matching speed against brute force, pyahocorasick and the Rust automata.

    python benchmarks/matching.py [--texts POOL.parquet ... --metadata ENTRIES.json.gz]

Each peer gives the set of matching entries of every text, which is checked to be as large as ours.
One core: processor time, interleaved rounds, medians of the rounds' ratios. All cores: wall time of
as many threads as there are cores, for what may be used from several threads.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import ahocorasick
import ahocorasick_rs
import daachorse
import pyarrow as pa
from harness import (
    arguments,
    cpu_seconds,
    interleaved,
    load,
    median_ratio,
    peak_memory_mb,
    report,
)

from clipcurate.matching import RULES, Matcher

BRUTE_TEXTS = 10
REPEATS = 64  # of the texts for us in the test with threads, so that it takes a while
REFERENCE, OURS = "pyahocorasick as the reference uses it", "clipcurate token-trie"
RUST = ("ahocorasick_rs", "daachorse")

Match = Callable[[Sequence[str]], int]
"""Match texts and return the number of hits."""

RULE = RULES["metaclip1"]


def reference(entries: list[str]) -> Match:
    """Match as the published code does: one automaton, one set of entries per text."""
    automaton = ahocorasick.Automaton()
    for number, entry in enumerate(entries):
        automaton.add_word(RULE.spaced_entry(entry), (number, entry))
    automaton.make_automaton()

    def match(texts: Sequence[str]) -> int:
        found = 0
        for text in texts:
            found += len({entry for _, (_, entry) in automaton.iter(RULE.spaced_text(text))})
        return found

    return match


def rust_aho_corasick(entries: list[str]) -> Match:
    automaton = ahocorasick_rs.AhoCorasick([RULE.spaced_entry(entry) for entry in entries])
    find = automaton.find_matches_as_indexes

    def match(texts: Sequence[str]) -> int:
        return sum(
            len({hit[0] for hit in find(RULE.spaced_text(text), overlapping=True)})
            for text in texts
        )

    return match


def rust_double_array(entries: list[str]) -> Match:
    needles = [RULE.spaced_entry(entry).encode() for entry in entries]
    find = daachorse.DoubleArrayAhoCorasick(needles).find_overlapping

    def match(texts: Sequence[str]) -> int:
        return sum(len({hit[2] for hit in find(RULE.spaced_text(text).encode())}) for text in texts)

    return match


def brute_force(entries: list[str], texts: Sequence[str]) -> None:
    """Look for every entry in every text."""
    needles = [RULE.spaced_entry(entry) for entry in entries]
    for text in texts:
        spaced = RULE.spaced_text(text)
        [needle for needle in needles if needle in spaced]


def compare(
    entries: list[str], column: pa.Array, peers: dict[str, Match], ours: Matcher, rounds: int
) -> dict[str, Any]:
    """Measure everything on one pool."""
    texts = column.to_pylist()
    hits = len(ours.match(column).entry_ids)
    for name, match in peers.items():
        assert match(texts) == hits, f"{name} finds another number of hits"
    work = {name: lambda match=match: match(texts) for name, match in peers.items()}
    work[OURS] = lambda: ours.match(column)
    one = interleaved(work, rounds, time.process_time)
    every = interleaved(threaded(column, peers, ours), rounds, time.perf_counter)
    brute = cpu_seconds(lambda: brute_force(entries, texts[:BRUTE_TEXTS])) / BRUTE_TEXTS
    rust = min((one[name] for name in RUST), key=median)
    size = sum(len(text.encode()) for text in texts)
    return {
        "texts": len(texts),
        "bytes_per_text": round(size / len(texts), 1),
        "hits_per_text": round(hits / len(texts), 2),
        "texts_per_second_one_core": {
            "brute force": round(1 / brute, 1),
            **{name: round(len(texts) / median(s)) for name, s in one.items()},
        },
        "mb_per_second_one_core": round(size / median(one[OURS]) / 1e6, 1),
        "ratio_to_reference": round(median_ratio(one[REFERENCE], one[OURS]), 1),
        "ratio_to_best_rust": round(median_ratio(rust, one[OURS]), 1),
        "texts_per_second_by_threads": {
            name: round(len(texts) * (REPEATS if name.startswith(OURS) else 1) / median(s))
            for name, s in every.items()
        },
        "two_threads_over_one": round(
            median_ratio(every[f"{OURS}, 1"], every[f"{OURS}, {os.cpu_count()}"]), 2
        ),
    }


def threaded(
    column: pa.Array, peers: dict[str, Match], ours: Matcher
) -> dict[str, Callable[[], object]]:
    """Return runs over slices of the texts by one thread and by as many as there are cores."""
    cores = os.cpu_count() or 1
    step = -(-len(column) // (4 * cores))
    slices = [column.slice(start, step) for start in range(0, len(column), step)]
    lists = [part.to_pylist() for part in slices]

    def spread(match: Callable[[Any], object], parts: Sequence[Any], threads: int) -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(match, parts))

    runs: dict[str, Callable[[], object]] = {}
    for threads in sorted({1, cores}):
        runs[f"{OURS}, {threads}"] = lambda n=threads: spread(ours.match, slices * REPEATS, n)
        for name in RUST:
            match = peers[name]
            runs[f"{name}, {threads}"] = lambda n=threads, match=match: spread(match, lists, n)
    return runs


def life_cycle(entries: list[str]) -> dict[str, Any]:
    """Measure building, storing and mapping the tables."""
    Matcher.build(entries[:10]).match(pa.array(["a"]))  # compiles
    build = median(cpu_seconds(lambda: Matcher.build(entries)) for _ in range(3))
    matcher = Matcher.build(entries)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tables"
        matcher.save(path)
        load_seconds = median(cpu_seconds(lambda: Matcher.load(path)) for _ in range(3))
        size = path.stat().st_size
    return {
        "build_seconds": round(build, 3),
        "load_seconds": round(load_seconds, 4),
        "tables_mb": round(matcher.nbytes / 1e6, 1),
        "file_mb": round(size / 1e6, 1),
        "peak_memory_mb_after_building": peak_memory_mb(),
    }


def main() -> None:
    args = arguments(__doc__).parse_args()
    entries, pools = load(args)
    results: dict[str, Any] = {"entries": len(entries), "tables": life_cycle(entries)}
    ours = Matcher.build(entries)
    peers: dict[str, Match] = {}
    for name, build in {
        REFERENCE: reference,
        RUST[0]: rust_aho_corasick,
        RUST[1]: rust_double_array,
    }.items():
        start = time.process_time()
        peers[name] = build(entries)
        results.setdefault("peers_build_seconds", {})[name] = round(time.process_time() - start, 2)
    results["pools"] = {
        name: compare(entries, column, peers, ours, args.rounds) for name, column in pools.items()
    }
    report(results, args.output)


if __name__ == "__main__":
    main()
