"""Real captions with 500,000 entries: counts against brute force, on a sample of every pool."""

import json
from collections import Counter
from pathlib import Path

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from clipcurate import metadata
from tests.conftest import CommandLine

TEXTS = 2000
LITERAL = 20


def spaced(text: str) -> str:
    text = f" {text} "
    for mark in ",.;:?!`":
        text = text.replace(mark, f" {mark} ")
    return text.replace("\t", " ").replace("\n", " ").replace("\r", " ")


def windows(text: str, words: int) -> set[str]:
    """Return all runs of up to `words` tokens: every string that stands between two spaces."""
    tokens = spaced(text).split(" ")[1:-1]
    return {
        " ".join(tokens[start : start + length])
        for length in range(1, words + 1)
        for start in range(len(tokens) - length + 1)
    }


@pytest.fixture(scope="module")
def entries(shared_data: Path) -> tuple[str, ...]:
    return metadata.load(str(shared_data / "terms" / "standin_metadata_500k.json.gz")).entries


def test_counts_equal_brute_force_on_a_sample_of_every_pool(
    shared_data: Path, tmp_path: Path, entries: tuple[str, ...], command_line: CommandLine
) -> None:
    (tmp_path / "pool").mkdir()
    ids = {entry: number for number, entry in enumerate(entries)}
    longest = max(entry.count(" ") + 1 for entry in entries)
    counts: Counter[int] = Counter()
    rng = np.random.default_rng(0)
    for pool in sorted((shared_data / "pools").glob("*.parquet")):
        table = pq.read_table(pool)
        sample = table.take(np.sort(rng.choice(len(table), TEXTS, replace=False)))
        pq.write_table(sample, tmp_path / "pool" / pool.name)
        texts = sample["text"].to_pylist()
        for place, text in enumerate(texts):
            hits = {ids[window] for window in windows(text, longest) if window in ids}
            if place < LITERAL:
                whole = spaced(text)
                assert hits == {n for n, entry in enumerate(entries) if f" {entry} " in whole}
            counts.update(hits)
    args = ["--pool", tmp_path / "pool", "--output", tmp_path / "out", "--t", 20]
    args += ["--metadata", shared_data / "terms" / "standin_metadata_500k.json.gz"]
    done = command_line("run", *args)
    assert done.returncode == 0, done.stderr
    dataset = Path(done.stdout.strip())
    published = np.load(dataset / "counts-all.npy")
    assert published.tolist() == [counts[number] for number in range(len(entries))]
    totals = json.loads((dataset / "manifest.json").read_text())["totals"]
    pools = len(list((tmp_path / "pool").iterdir()))
    assert sum(totals.values()) == pools * TEXTS
    kept = duckdb.sql(f"SELECT count(*) FROM '{dataset}/pairs-*.parquet'").fetchall()
    assert kept == [(totals["kept"],)]
    assert command_line("verify", dataset, "--run", tmp_path / "out").returncode == 0
