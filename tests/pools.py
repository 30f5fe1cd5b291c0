"""A small pool with everything in it that pools have, for tests that go through the services."""

import csv
import gzip
import io
import json
import random
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

WORDS = ["red", "blue", "old", "photo", "of", "a", "the", "cat", "dog", "house", "new york", "tree"]
ENTRIES = [*WORDS, "a cat", "a dog", "red house", "St. Louis", "never", "straße", "猫", "of a"]
SHARDS = 5


def make_pool(folder: Path, rows: int = 3000, seed: int = 0) -> int:
    """Write parquet (several row groups, two files), jsonl.gz, csv and a tar; return the pairs."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    each = rows // SHARDS
    for name in ("a.parquet", "b.parquet"):
        _parquet(folder / name, [_row(rng) for _ in range(each)])
    _jsonl(folder / "c.jsonl.gz", [_row(rng) for _ in range(each)])
    _csv(folder / "d.csv", [_row(rng) for _ in range(each)])
    write_tar(folder / "e.tar", each, rng)
    return each * SHARDS


def make_parquet_pool(folder: Path, files: int, rows: int, seed: int = 0) -> None:
    """Write so many files of `rows` rows in six row groups each."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    for number in range(files):
        _parquet(folder / f"{number:03d}.parquet", [_row(rng) for _ in range(rows)])


def write_metadata(path: Path) -> Path:
    """Write the entries as MetaCLIP does."""
    path.write_text(json.dumps(ENTRIES, ensure_ascii=False))
    return path


def matched_entries(text: str) -> list[int]:
    """Return which ENTRIES a text matches, by the published rule `metaclip1` spelled out."""
    spaced = f" {text} "
    for mark in ",.;:?!`":
        spaced = spaced.replace(mark, f" {mark} ")
    for white in "\t\n\r":
        spaced = spaced.replace(white, " ")
    return [number for number, entry in enumerate(ENTRIES) if f" {entry} " in spaced]


def caption(rng: random.Random) -> str:
    """Return a text: mostly words, Zipf-like, sometimes awkward or noise."""
    kind = rng.random()
    if kind < 0.1:
        return f"IMG_{rng.randrange(10_000)}.JPG"
    if kind < 0.15:
        return rng.choice(["", " ", "猫", "straße, new  york", "St. Louis", "a\tcat\nred", "\0cat"])
    weights = [1 / (place + 1) for place in range(len(WORDS))]
    words = rng.choices(WORDS, weights, k=rng.randrange(1, 8))
    return rng.choice([" ", ", ", "-"]).join(words)


def _row(rng: random.Random) -> dict[str, str]:
    number = rng.randrange(10**6)
    return {
        "url": f"http://127.0.0.1/{number}.jpg",
        "text": caption(rng),
        "lang": rng.choice(["en", "de", ""]),
        "site": f"site-{number % 7}",
    }


def _parquet(path: Path, rows: list[dict[str, str]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=max(len(rows) // 6, 1))


def _jsonl(path: Path, rows: list[dict[str, str]]) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(gzip.compress(lines.encode(), mtime=0))


def _csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_tar(path: Path, samples: int, rng: random.Random) -> None:
    """Write a webdataset tar of small PNGs with captions."""
    with tarfile.open(path, "w") as tar:
        for number in range(samples):
            color = tuple(rng.randrange(256) for _ in range(3))
            buffer = io.BytesIO()
            Image.new("RGB", (32, 32), color).save(buffer, "PNG")
            url = json.dumps({"url": f"http://127.0.0.1/{number}.png"}).encode()
            members = {"png": buffer.getvalue(), "txt": caption(rng).encode(), "json": url}
            for extension, content in members.items():
                member = tarfile.TarInfo(f"{number:09d}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
