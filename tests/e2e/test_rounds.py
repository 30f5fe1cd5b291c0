"""Balancing in two rounds, as users do: balance, download with losses, balance what arrived."""

import io
import json
import math
import random
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from clipcurate.datasets.manifest import Manifest
from clipcurate.datasets.verify import verify_dataset
from tests.conftest import CommandLine
from tests.pools import ENTRIES, caption, write_metadata

IMAGES = 2500
LOST = 0.2
FIRST_T, SECOND_T = 120.0, 30.0


def spaced(text: str) -> str:
    """The rule metaclip1, spelled out."""
    text = f" {text} "
    for mark in ",.;:?!`":
        text = text.replace(mark, f" {mark} ")
    for white in "\t\n\r":
        text = text.replace(white, " ")
    return text


def write_pool(path: Path) -> list[list[str]]:
    """Write images with one to three texts each, as JSON lines; return the texts."""
    rng = random.Random(3)
    images = [[caption(rng) for _ in range(rng.randrange(1, 4))] for _ in range(IMAGES)]
    with path.open("w") as file:
        for number, texts in enumerate(images):
            record = {"url": f"http://127.0.0.1/{number}.jpg", "texts": texts}
            file.write(json.dumps(record) + "\n")
    return images


def download(dataset: str, path: Path) -> list[dict[str, Any]]:
    """Write what img2dataset would of the images that still exist; return their rows."""
    rng = random.Random(4)
    query = duckdb.sql(f"SELECT uid, url, text FROM '{dataset}/pairs-*.parquet'")
    rows = [dict(zip(query.columns, row, strict=True)) for row in query.fetchall()]
    arrived = [row for row in rows if rng.random() >= LOST]
    with tarfile.open(path, "w") as tar:
        for number, row in enumerate(arrived):
            members = {
                "jpg": b"image",
                "txt": row["text"].encode(),
                "json": json.dumps(row).encode(),
            }
            for extension, content in members.items():
                member = tarfile.TarInfo(f"{number:09d}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return arrived


def law(counts: list[int], texts: list[list[int]], t: float) -> list[float]:
    """The paper's probability of each text: 1 - Π (1 - min(1, t / c))."""
    return [1 - math.prod(1 - min(1, t / counts[entry]) for entry in ids) for ids in texts]


def test_sizes_follow_the_law_of_each_round(command_line: CommandLine, tmp_path: Path) -> None:
    metadata = write_metadata(tmp_path / "metadata.json")
    images = write_pool(tmp_path / "pool.jsonl")

    def run(pool: Path, output: str, *more: object) -> tuple[str, Manifest]:
        args = ["run", "--pool", pool, "--metadata", metadata, "--output", tmp_path / output]
        done = command_line(*args, "--task-rows", 700, *more)
        assert done.returncode == 0, done.stderr
        url = done.stdout.strip()
        return url, verify_dataset(url, str(tmp_path / output))

    def hits(text: str) -> list[int]:
        return [number for number, entry in enumerate(ENTRIES) if f" {entry} " in spaced(text)]

    first, manifest = run(
        tmp_path / "pool.jsonl", "first", "--t", FIRST_T, "--semantics", "metaclip2"
    )
    matched = [[ids for ids in map(hits, texts) if ids] for texts in images]
    counted = Counter(entry for texts in matched for ids in texts for entry in ids)
    counts = [counted[number] for number in range(len(ENTRIES))]
    assert np.load(f"{first}/counts-all.npy").tolist() == counts
    assert manifest.totals.not_chosen == sum(len(texts) - 1 for texts in matched if texts)
    q = [sum(law(counts, texts, FIRST_T)) / len(texts) for texts in matched if texts]
    assert_within(manifest, q)
    assert manifest.totals.dropped > 0
    options = ["--t", FIRST_T, "--semantics", "metaclip2", "--json"]
    planned = json.loads(command_line("plan", tmp_path / "first", *options).stdout)
    assert planned["size"] == manifest.totals.kept
    assert math.isclose(planned["expected"], sum(q))

    arrived = download(first, tmp_path / "images.tar")
    assert len({row["url"] for row in arrived}) == len(arrived)
    second, manifest = run(tmp_path / "images.tar", "second", "--t", SECOND_T, "--round", 1)
    found = [hits(row["text"]) for row in arrived]
    counted = Counter(entry for ids in found for entry in ids)
    counts = [counted[number] for number in range(len(ENTRIES))]
    assert np.load(f"{second}/counts-all.npy").tolist() == counts
    assert_within(manifest, law(counts, found, SECOND_T))
    assert manifest.totals.dropped > 0
    uids = duckdb.sql(f"SELECT uid FROM '{second}/pairs-*.parquet'").fetchall()
    assert {uid for (uid,) in uids} <= {row["uid"] for row in arrived}


def assert_within(manifest: Manifest, q: list[float]) -> None:
    """The size is Σq ± 4 deviations, and the manifest says so."""
    deviation = math.sqrt(sum(p * (1 - p) for p in q))
    assert abs(manifest.totals.kept - sum(q)) < 4 * deviation
    assert abs(manifest.expected_size - sum(q)) < 1e-3
    assert abs(manifest.size_deviation - deviation) < 1e-3
