from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipcurate import storage
from clipcurate.datasets.dedup import Dedup
from clipcurate.datasets.dedup_files import (
    duplicates_again,
    publish_drops,
    publish_keys,
    read_duplicates,
)
from clipcurate.datasets.run_plan import RunPlan
from clipcurate.errors import NotFoundError, StorageError
from clipcurate.pools import Columns


@pytest.fixture
def plan(tmp_path: Path) -> RunPlan:
    """Three tasks of three rows: a, b, a; b, c, c; a, c, d."""
    folder = tmp_path / "pool"
    folder.mkdir()
    for number, urls in enumerate(["aba", "bcc", "acd"]):
        table = pa.table({"url": list(urls), "text": ["x"] * 3})
        pq.write_table(table, folder / f"{number}.parquet")
    return RunPlan.make([str(folder)], Columns(), 3, None, "url")


def store(plan: RunPlan, dedup: Dedup, folder: str, tasks: list[int]) -> tuple[list[str], ...]:
    """Store keys and drops without some tasks; return their URLs."""
    keys = [""] * len(plan.tasks)
    for task in tasks:
        stored = publish_keys(plan, dedup, task, folder, lambda _: None)
        keys[task] = storage.join(folder, stored.name)
    some = [url or None for url in keys]
    drops = [
        storage.join(folder, publish_drops(some, number, folder, lambda _: None).name)
        for number in range(dedup.partitions)
    ]
    return keys, drops


@pytest.mark.parametrize("partitions", [1, 2, 7])
def test_each_task_learns_its_duplicates(plan: RunPlan, tmp_path: Path, partitions: int) -> None:
    dedup = Dedup("url", partitions)
    keys, drops = store(plan, dedup, str(tmp_path / "run"), [0, 1, 2])
    found = [read_duplicates(dedup, task, keys[task], drops) for task in range(3)]
    assert [one.dropped.tolist() for one in found] == [[2], [0, 2], [0, 1]]


def test_a_task_that_cannot_be_read_stands_for_nothing(plan: RunPlan, tmp_path: Path) -> None:
    dedup = Dedup("url", 2)
    keys, drops = store(plan, dedup, str(tmp_path / "run"), [1, 2])
    found = [read_duplicates(dedup, task, keys[task], drops) for task in (1, 2)]
    assert [one.dropped.tolist() for one in found] == [[2], [1]]


def test_the_same_bytes_get_the_same_names(plan: RunPlan, tmp_path: Path) -> None:
    dedup = Dedup("url", 3)
    names = []
    for folder in ("one", "two"):
        store(plan, dedup, str(tmp_path / folder), [0, 1, 2])
        names.append(sorted(path.name for path in (tmp_path / folder).iterdir()))
    assert names[0] == names[1]
    assert len(names[0]) == 6


def test_object_storage(plan: RunPlan) -> None:
    dedup = Dedup("url", 2)
    keys, drops = store(plan, dedup, "memory://dedup-files", [0, 1, 2])
    assert read_duplicates(dedup, 2, keys[2], drops).dropped.tolist() == [0, 1]


def test_found_again(plan: RunPlan) -> None:
    with duplicates_again(plan, [0, 2], lambda _: None) as duplicates_of:
        found = [duplicates_of(task) for task in (0, 2)]
    assert [one.dropped.tolist() for one in found if one] == [[2], [0]]
    kept = RunPlan(plan.shards, plan.columns, plan.tasks)
    with duplicates_again(kept, [0, 1, 2], lambda _: None) as duplicates_of:
        assert duplicates_of(0) is None


def test_progress_is_told(plan: RunPlan, tmp_path: Path) -> None:
    told: list[int] = []
    stored = publish_keys(plan, Dedup("url", 1), 0, str(tmp_path / "run"), told.append)
    assert told == [3]
    publish_drops([str(tmp_path / "run" / stored.name)], 0, str(tmp_path / "run"), told.append)
    assert told[1:] == [40]  # two ids of 16 bytes with units of 4


def test_damage_and_loss(plan: RunPlan, tmp_path: Path) -> None:
    dedup = Dedup("url", 1)
    keys, drops = store(plan, dedup, str(tmp_path / "run"), [0, 1, 2])
    content = bytearray(Path(keys[1]).read_bytes())
    content[70] ^= 1
    Path(keys[1]).write_bytes(content)
    with pytest.raises(StorageError, match="section 0 is not what was written"):
        publish_drops(keys, 0, str(tmp_path / "run"), lambda _: None)
    Path(drops[0]).unlink()
    with pytest.raises(NotFoundError, match="drops"):
        read_duplicates(dedup, 0, keys[0], drops)
