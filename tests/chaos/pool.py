"""The pool that chaos runs share: four shards, three ranges of entries, brute-force counts."""

import json
import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clipcurate.cli.options import run_request
from clipcurate.cli.submission import Submission, prepare
from clipcurate.datasets.request import EmissionRequest
from clipcurate.pools import Columns

T = 30.0
TASK_ROWS = 250
PART_BYTES = 150_000
PHRASES = ["new york", "a cat", "red house", "of a photo", "St. Louis"]
WORDS = ["red", "new", "york", "a", "of", "cat", "house", "photo"]
ENTRIES = [*PHRASES, *WORDS, *(f"w{number}" for number in range(20_000))]


def write_inputs(folder: Path, rows: int) -> Path:
    """Write the pool (four parquet files) and the metadata."""
    rng = random.Random(7)
    (folder / "pool").mkdir(parents=True)
    for shard in range(4):
        texts = [_caption(rng) for _ in range(rows // 4)]
        urls = [f"http://127.0.0.1/{shard}/{number}.jpg" for number in range(len(texts))]
        table = pa.table({"url": urls, "text": texts})
        pq.write_table(table, folder / "pool" / f"{shard}.parquet", row_group_size=TASK_ROWS)
    (folder / "metadata.json").write_text(json.dumps(ENTRIES))
    return folder


def _caption(rng: random.Random) -> str:
    if rng.random() < 0.1:
        return f"IMG_{rng.randrange(10_000)}.JPG"
    words = rng.choices([*WORDS, *PHRASES], k=rng.randrange(1, 4))
    words += [f"w{int(20_000 * rng.random() ** 6)}" for _ in range(rng.randrange(6))]
    return rng.choice([" ", ", "]).join(words)


def brute_force_counts(inputs: Path) -> list[int]:
    """Count texts per entry, by the published rule spelled out."""
    texts = pq.read_table(inputs / "pool", columns=["text"])["text"].to_pylist()
    counts: Counter[str] = Counter()
    for text in texts:
        spaced = f" {text} "
        for mark in ",.;:?!`":
            spaced = spaced.replace(mark, f" {mark} ")
        found = {phrase for phrase in PHRASES if f" {phrase} " in spaced}
        counts.update(found | set(spaced.split(" ")))
    return [counts[entry] for entry in ENTRIES]


def submission(inputs: Path, output: Path, order_seed: int) -> Submission:
    """Plan the run: one balanced dataset of several parts, and the matched one."""
    request = run_request(
        [str(inputs / "pool")],
        Columns(),
        [str(inputs / "metadata.json")],
        False,
        str(output),
        task_rows=TASK_ROWS,
        order_seed=order_seed,
    )
    wanted = [
        EmissionRequest("balanced", t=T, part_bytes=PART_BYTES),
        EmissionRequest("matched", part_bytes=PART_BYTES),
    ]
    return prepare(request, wanted)
