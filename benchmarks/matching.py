"""Matching speed: brute force, pyahocorasick as the published reference uses it, and ours.

    python benchmarks/matching.py [--texts POOL.parquet --metadata ENTRIES.json.gz] [--rounds 5]

Without files: 500,000 made-up entries and Zipf-distributed texts of 10 words. One core, CPU time,
interleaved rounds, medians; the ratio to the reference is the claim.
"""

import argparse
import json
import platform
import random
import resource
import statistics
import time
from collections.abc import Callable

import ahocorasick
import pyarrow as pa
import pyarrow.parquet as pq

from clipcurate import metadata
from clipcurate.matching import Matcher
from clipcurate.matching.rules import spaced_entry, spaced_text

TEXTS = 20_000
BRUTE_TEXTS = 10


def made_up(rng: random.Random) -> tuple[list[str], list[str]]:
    """Return entries and texts over one Zipf-distributed vocabulary."""
    letters = "etaoinshrdlucmfwyp"
    words = list({"".join(rng.choices(letters, k=rng.randrange(2, 10))) for _ in range(300_000)})
    weights = [1 / (rank + 1) for rank in range(len(words))]
    entries = list(dict.fromkeys(words + [" ".join(rng.choices(words, k=2)) for _ in words]))
    texts = [" ".join(rng.choices(words, weights, k=10)) for _ in range(TEXTS)]
    return entries[:500_000], texts


def reference(entries: list[str]) -> Callable[[list[str]], None]:
    """Match as the published code does: one automaton, one set of entries per text."""
    automaton = ahocorasick.Automaton()
    for number, entry in enumerate(entries):
        automaton.add_word(spaced_entry(entry), (number, entry))
    automaton.make_automaton()

    def match(texts: list[str]) -> None:
        for text in texts:
            {entry for _, (_, entry) in automaton.iter(spaced_text(text))}

    return match


def brute_force(entries: list[str], texts: list[str]) -> None:
    """Look for every entry in every text."""
    needles = [spaced_entry(entry) for entry in entries]
    for text in texts:
        spaced = spaced_text(text)
        [needle for needle in needles if needle in spaced]


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the processor time that `work` takes."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts")
    parser.add_argument("--metadata")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    entries, texts = made_up(random.Random(0))
    if args.metadata and args.texts:
        entries = list(metadata.load(args.metadata).entries)
        texts = pq.read_table(args.texts)["text"].slice(0, TEXTS).to_pylist()
    column = pa.array(texts, pa.large_string())
    build = cpu_seconds(lambda: Matcher.build(entries))
    build = min(build, cpu_seconds(lambda: Matcher.build(entries)))  # the first one compiles
    ours, theirs = Matcher.build(entries), reference(entries)
    hits = len(ours.match(column).entry_ids)
    rounds = [
        (cpu_seconds(lambda: theirs(texts)), cpu_seconds(lambda: ours.match(column)))
        for _ in range(args.rounds)
    ]
    brute = cpu_seconds(lambda: brute_force(entries, texts[:BRUTE_TEXTS])) / BRUTE_TEXTS
    their, our = (statistics.median(r[k] for r in rounds) / len(texts) for k in (0, 1))
    print(
        json.dumps(
            {
                "machine": f"{platform.machine()}, {platform.platform()}",
                "entries": len(entries),
                "texts": len(texts),
                "bytes_per_text": round(column.nbytes / len(texts), 1),
                "hits_per_text": round(hits / len(texts), 2),
                "texts_per_second": {
                    "brute_force": round(1 / brute),
                    "pyahocorasick_as_the_reference": round(1 / their),
                    "token_trie": round(1 / our),
                },
                "ratio_to_reference": round(statistics.median(a / b for a, b in rounds), 1),
                "build_seconds": round(build, 3),
                "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
