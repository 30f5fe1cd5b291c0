from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clipcurate.datasets.run_record import FrozenRun, RunRecord
from clipcurate.errors import InvalidInputError, NotFoundError, StorageError
from clipcurate.metadata import ALL
from clipcurate.storage import StoredObject


def test_record_round_trip() -> None:
    stored = StoredObject("index/000000-ab.arrow", 3, "0" * 32)
    record = RunRecord("r", "s", "metaclip1", stored, stored, {"all": stored}, [stored, None])
    assert RunRecord.from_bytes(record.to_bytes()) == record


def test_a_frozen_run_reads_without_any_service(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool, task_rows=20)
    frozen = FrozenRun.open(run.folder)
    assert frozen.plan() == run.plan
    assert np.array_equal(frozen.counts()[ALL], run.counts[ALL])
    assert np.array_equal(frozen.recount()[ALL], run.counts[ALL])
    assert sum(map(len, frozen.indexes())) == sum(map(len, run.indexes))
    assert frozen.identity == {
        "id": frozen.record.run_id,
        "rule": "metaclip1",
        "metadata": {ALL: frozen.metadata(ALL).fingerprint},
    }


def test_opens_by_the_run_or_by_its_output(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    assert FrozenRun.open(run.output).record == FrozenRun.open(run.folder).record
    assert FrozenRun.open(f"file://{run.output}/").record == FrozenRun.open(run.folder).record


def test_marks_of_globs_in_a_folder_are_ordinary(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    odd = Path(run.output).rename(Path(run.output).parent / "out[1] *?")
    assert FrozenRun.open(str(odd)).plan() == run.plan


def test_none_and_several_are_refused(make_run, parquet_pool: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(NotFoundError, match="no frozen run here"):
        FrozenRun.open(str(tmp_path))
    with pytest.raises(InvalidInputError, match="nope://x"):
        FrozenRun.open("nope://x")
    run = make_run(parquet_pool)
    other = Path(run.output) / "runs" / "other"
    other.mkdir()
    (other / "record-1.json").write_text("{}")
    with pytest.raises(InvalidInputError, match="several"):
        FrozenRun.open(run.output)


def test_records_of_one_snapshot_are_one(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    (record,) = Path(run.folder).glob("record-*.json")
    (record.parent / f"{record.stem[:-1]}x.json").write_bytes(record.read_bytes())
    assert FrozenRun.open(run.folder).plan() == run.plan
    assert FrozenRun.open(str(record)).plan() == run.plan


def test_a_quarantined_task_is_empty(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool, task_rows=20)
    frozen = FrozenRun.open(run.folder)
    frozen.record.indexes[0] = None
    sizes = [len(index) for index in frozen.indexes()]
    assert sizes == [0, *map(len, run.indexes[1:])]
    assert frozen.recount()[ALL].sum() == sum(len(i.matches.entry_ids) for i in run.indexes[1:])


def test_damage_is_noticed(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    frozen = FrozenRun.open(run.folder)
    path = Path(run.folder) / frozen.record.counts.name
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(StorageError, match="recorded hash"):
        frozen.counts()


def test_every_object_of_a_record_is_checked(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    frozen = FrozenRun.open(make_run(parquet_pool, task_rows=20).folder)
    objects = frozen.record.objects()
    assert len(objects) == 3 + len(frozen.record.indexes) > 4
    for stored in objects:
        frozen.check(stored)
        path = Path(frozen.folder.removeprefix("file://")) / stored.name
        content = path.read_bytes()
        path.write_bytes(content[:-1])
        with pytest.raises(StorageError, match=stored.name):
            frozen.check(stored)
        path.write_bytes(content)
    quarantined = replace(frozen.record, indexes=[None])
    assert len(quarantined.objects()) == 3
