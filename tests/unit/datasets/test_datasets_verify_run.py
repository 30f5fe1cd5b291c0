"""A dataset held against the run's folder: counts that stand for more pairs, and duplicates."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clipcurate import storage
from clipcurate.datasets import snapshot
from clipcurate.datasets.dedup import By
from clipcurate.datasets.manifest import Manifest, load
from clipcurate.datasets.match_index import Status
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.run_record import FrozenRun
from clipcurate.datasets.verify import verify_dataset
from clipcurate.errors import DatasetError
from clipcurate.hashing import hash_bytes, hash_json
from clipcurate.metadata import ALL

RAW = EmissionRequest("raw")
BALANCED = EmissionRequest("balanced", t=4.0, seed=7)


def test_counts_of_an_open_pool_are_projected_again(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool, task_rows=30, announced=1000)
    pairs = sum(map(len, run.indexes))
    url = run.emit(BALANCED)
    manifest = verify_dataset(url, run.folder)
    raw = run.projection.raw[ALL]
    assert run.counts[ALL].tolist() == [max(1, round(c * 1000 / pairs)) for c in raw.tolist()]
    assert np.load(Path(url) / "counts-all.npy").tolist() == run.counts[ALL].tolist()
    packed = hash_bytes(raw.astype("<i8").tobytes())
    expected = {"seen": pairs, "announced": 1000, "raw": {ALL: packed}}
    assert manifest.identity["projected"] == expected
    assert f"counts of {pairs} pairs stand for 1,000" in (Path(url) / "README.md").read_text()
    other = make_run(parquet_pool, task_rows=30)
    assert other.emit(BALANCED) != url
    with pytest.raises(DatasetError):
        verify_dataset(url, other.folder)


EARLY = (1, 3)
"""Tasks that were counted when the counts of `parquet_pool` had converged."""


def test_counts_that_converged_are_those_of_their_tasks(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool, task_rows=30, announced=200, tasks=EARLY)
    url = run.emit(BALANCED)
    manifest = verify_dataset(url, run.folder)
    seen = sum(len(run.indexes[task]) for task in EARLY)
    assert manifest.identity["projected"]["seen"] == seen < manifest.totals.pairs
    assert manifest.identity["quarantined"] == []
    assert "frozen when they had converged: counts of" in (Path(url) / "README.md").read_text()
    frozen = FrozenRun.open(run.output)
    assert frozen.counted() == list(EARLY)
    assert np.array_equal(frozen.recount()[ALL], frozen.raw_counts()[ALL])
    other = make_run(parquet_pool, task_rows=30, announced=200, tasks=(0, 3))
    assert other.snapshot_id != run.snapshot_id
    for one in (url, other.emit(BALANCED)):
        verify_dataset(one, run.output)  # both lie there: each finds the record that is its own


def test_counts_of_other_tasks_than_those_named(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool, task_rows=30, announced=200, tasks=EARLY)
    url = run.emit(BALANCED)
    frozen = FrozenRun.open(run.folder)
    claimed = replace(frozen.projection(), tasks=(0, 3))
    content = snapshot.to_bytes(run.counts, claimed)
    stored = storage.publish_bytes(content, run.folder, "counts", ".bin")
    (path,) = Path(run.folder).glob("record-*.json")
    path.write_bytes(replace(frozen.record, counts=stored).to_bytes())
    with pytest.raises(DatasetError, match="counts differ"):
        verify_dataset(url, run.folder)


def test_what_was_quarantined_is_named_by_the_identity(  # type: ignore[no-untyped-def]
    make_run, parquet_pool: Path, rewrite
) -> None:
    run = make_run(parquet_pool, task_rows=30, announced=200, tasks=EARLY)
    url = run.emit(BALANCED)
    lost = {"inputs": [{"shard": "x"}], "reason": "gone"}
    rewrite(url, lambda manifest: replace(manifest, unknown_rows=[lost]))
    with pytest.raises(DatasetError, match="quarantined inputs are not those of the identity"):
        verify_dataset(url)


def test_a_projection_that_is_not_the_identity_s(make_run, parquet_pool: Path, rewrite) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool, task_rows=30, announced=1000)
    url = run.emit(BALANCED)

    def claim_more(manifest: Manifest) -> Manifest:
        identity = manifest.identity | {"projected": {**manifest.identity["projected"], "seen": 1}}
        return replace(manifest, identity=identity, emission_id=hash_json(identity))

    rewrite(url, claim_more)
    with pytest.raises(DatasetError, match="not those of the identity's snapshot"):
        verify_dataset(url)


@pytest.mark.parametrize("by", ["uid", "url"])
def test_duplicates_are_found_again(make_run, parquet_pool: Path, by: By) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool, task_rows=9, dedup=by)
    assert run.plan.dedup.partitions > 1
    url = run.emit(RAW)
    assert verify_dataset(url, run.folder).totals.duplicate > 0
    (index, *_) = run.indexes
    other = make_run(parquet_pool, task_rows=10)
    everything = sum(len(one) for one in other.indexes)
    assert load(url).totals.pairs == everything
    assert index.status.tolist().count(Status.DUPLICATE) == 0


def test_a_drop_that_is_no_duplicate(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool, task_rows=9, dedup="url")
    (index, *_) = run.indexes
    first = int(np.argmax(index.status == Status.UNMATCHED))
    index.status[first] = Status.DUPLICATE
    url = run.emit(RAW)
    with pytest.raises(DatasetError, match="other pairs are kept"):
        verify_dataset(url, run.folder)
