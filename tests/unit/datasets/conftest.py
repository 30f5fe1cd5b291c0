"""Pools to curate without any service."""

import io
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipcurate.datasets.dedup import By
from clipcurate.datasets.manifest import FileRecord, Manifest
from clipcurate.datasets.run_plan import RunPlan
from clipcurate.hashing import hash_bytes
from clipcurate.pools import Columns
from tests.frozen_runs import Run, freeze, match

MakeRun = Callable[..., Run]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Match and freeze the pool at the given patterns."""

    def make(
        *pool: Path,
        task_rows: int = 1000,
        columns: Columns | None = None,
        dedup: By | None = None,
        announced: int = 0,
        tasks: tuple[int, ...] | None = None,
    ) -> Run:
        patterns = [str(path) for path in pool]
        plan = RunPlan.make(patterns, columns or Columns(), task_rows, None, dedup)
        output = tmp_path / f"output-{task_rows}-{dedup}-{announced}"
        return freeze(plan, match(plan), str(output), announced, tasks)

    return make


TEXTS = ["a dog", "a red dog, a cat", "nothing here", "猫", "in new york", None, "a", "dog", ""]


@pytest.fixture
def parquet_pool(tmp_path: Path) -> Path:
    """Three shards of several row groups: nulls, repeats, several texts per row, extras."""
    folder = tmp_path / "pool"
    folder.mkdir()
    for shard in range(3):
        numbers = [100 * (shard % 2) + i for i in range(40)]  # the last repeats the first
        table = pa.table(
            {
                "url": [f"http://127.0.0.1/{n % 31}.jpg" for n in numbers],
                "text": [[TEXTS[(n + j) % len(TEXTS)] for j in range(n % 4)] for n in numbers],
                "score": pa.array(numbers, pa.float32()),
                "site": pa.array([f"site {n % 4}" for n in numbers]).dictionary_encode(),
            }
        )
        pq.write_table(table, folder / f"{shard}.parquet", row_group_size=9)
    return folder


@pytest.fixture
def image_pool(tmp_path: Path) -> Path:
    """A webdataset tar of nine samples; the images are any bytes."""
    path = tmp_path / "images.tar"
    with tarfile.open(path, "w") as tar:
        for number, text in enumerate(TEXTS):
            members = {"jpg": b"image %d" % number, "txt": (text or "").encode()}
            for extension, content in members.items():
                member = tarfile.TarInfo(f"{number:03d}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def rewrite() -> Callable[[str, Callable[[Manifest], Manifest]], None]:
    """Replace a dataset's manifest, its own hash included."""

    def change(url: str, edit: Callable[[Manifest], Manifest]) -> None:
        path = Path(url) / "manifest.json"
        path.write_bytes(edit(Manifest.from_bytes(path.read_bytes())).to_bytes())

    return change


@pytest.fixture
def put_file() -> Callable[..., tuple[FileRecord, ...]]:
    """Replace a file's bytes and return the manifest's files as if it had always been so."""

    def put(
        url: str, files: Sequence[FileRecord], name: str, content: bytes, /, **more: Any
    ) -> Any:
        (Path(url) / name).write_bytes(content)
        changed = {"size": len(content), "hash": hash_bytes(content), **more}
        return tuple(replace(f, **changed) if f.name == name else f for f in files)

    return put
