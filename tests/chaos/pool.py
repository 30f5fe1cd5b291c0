"""The pool that chaos runs share: four shards, three ranges of entries, brute-force counts."""

import json
import random
from collections import Counter, defaultdict
from collections.abc import Container
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clipcurate.balancing.stability import StabilityRule
from clipcurate.cli.options import run_request
from clipcurate.cli.submission import Submission, prepare
from clipcurate.datasets.request import EmissionRequest, ImageName
from clipcurate.pools import Columns

T = 30.0
TASK_ROWS = 250
PART_BYTES = 150_000
PHRASES = ["new york", "a cat", "red house", "of a photo", "St. Louis"]
WORDS = ["red", "new", "york", "a", "of", "cat", "house", "photo"]
ENTRIES = [*PHRASES, *WORDS, *(f"w{number}" for number in range(20_000))]
SHARDS = 4


@dataclass(frozen=True)
class Variant:
    """A way to run over the pool: metadata, duplicates that are dropped, rows that are gathered."""

    name: str
    entries: dict[str, list[str]]
    dedup: str = ""
    freeze: str = "complete"
    group: ImageName | None = None

    def metadata(self, inputs: Path) -> Path:
        """Return where its metadata lie."""
        return inputs / self.name


PLAIN = Variant("plain", {"all": ENTRIES}, group="url")
MIXED = Variant("languages-dedup", {"en": ENTRIES, "de": ENTRIES[:10_000]}, "url")
EARLY = Variant("converged", {"all": ENTRIES}, group="url", freeze="converged")
VARIANTS = (PLAIN, MIXED, EARLY)


def write_inputs(folder: Path, rows: int) -> Path:
    """Write the pool, in which every tenth url is in all shards, and the variants' metadata."""
    rng = random.Random(7)
    (folder / "pool").mkdir(parents=True)
    for shard in range(SHARDS):
        numbers = range(rows // SHARDS)
        texts = [_caption(rng) for _ in numbers]
        urls = [f"http://127.0.0.1/{shard if n % 10 else 'all'}/{n}.jpg" for n in numbers]
        table = pa.table(
            {"url": urls, "text": texts, "lang": ["de" if n % 3 else "en" for n in numbers]}
        )
        pq.write_table(table, folder / "pool" / f"{shard}.parquet", row_group_size=TASK_ROWS)
    for variant in VARIANTS:
        variant.metadata(folder).mkdir()
        for language, entries in variant.entries.items():
            path = variant.metadata(folder) / f"{language}.json"
            path.write_text(json.dumps(entries))
    return folder


def _caption(rng: random.Random) -> str:
    if rng.random() < 0.1:
        return f"IMG_{rng.randrange(10_000)}.JPG"
    words = rng.choices([*WORDS, *PHRASES], k=rng.randrange(1, 4))
    words += [f"w{int(20_000 * rng.random() ** 6)}" for _ in range(rng.randrange(6))]
    return rng.choice([" ", ", "]).join(words)


def brute_force_counts(
    inputs: Path, variant: Variant, tasks: Container[int] | None = None
) -> dict[str, list[int]]:
    """Count texts per language and entry, by the published rule spelled out; of some tasks only."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    seen: set[str] = set()
    for shard in range(SHARDS):
        rows = pq.read_table(inputs / "pool" / f"{shard}.parquet").to_pylist()
        for number, row in enumerate(rows):
            task = shard * -(-len(rows) // TASK_ROWS) + number // TASK_ROWS
            if tasks is not None and task not in tasks:
                continue
            if variant.dedup and row["url"] in seen:
                continue
            seen.add(row["url"])
            language = row["lang"] if row["lang"] in variant.entries else "all"
            counts[language].update(_found(row["text"]))
    return {
        language: [counts[language][entry] for entry in entries]
        for language, entries in variant.entries.items()
    }


def _found(text: str) -> set[str]:
    spaced = f" {text} "
    for mark in ",.;:?!`":
        spaced = spaced.replace(mark, f" {mark} ")
    return {phrase for phrase in PHRASES if f" {phrase} " in spaced} | set(spaced.split(" "))


def submission(inputs: Path, variant: Variant, output: Path, order_seed: int) -> Submission:
    """Plan the run: balanced datasets of several parts (one of them grouped), and matched."""
    metadata = variant.metadata(inputs)
    request = run_request(
        [str(inputs / "pool")],
        Columns(),
        [str(metadata / "all.json" if "all" in variant.entries else metadata)],
        False,
        str(output),
        task_rows=TASK_ROWS,
        dedup=variant.dedup,
        order_seed=order_seed,
        stability=StabilityRule(epsilon=2.0, windows=2, share=0.05),
        freeze=variant.freeze,
    )
    wanted = [
        EmissionRequest("balanced", t=T, part_bytes=PART_BYTES),
        EmissionRequest("matched", part_bytes=PART_BYTES),
    ]
    if variant.group:
        chosen = replace(wanted[0], semantics="metaclip2", group=variant.group)
        wanted.append(chosen)
    return prepare(request, wanted)
