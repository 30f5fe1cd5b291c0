import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clipcurate.datasets.card import dataset_card
from clipcurate.datasets.manifest import FileRecord, load
from clipcurate.datasets.publishing import sorted_uids
from clipcurate.datasets.request import EmissionRequest
from clipcurate.metadata import ALL

MATCHED = EmissionRequest("matched")
BALANCED = EmissionRequest("balanced", t=4.0, seed=7)


def uids_of(url: str) -> list[str]:
    return [
        uid
        for file in load(url).of_role("pairs")
        for uid in pq.read_table(Path(url) / file.name)["uid"].to_pylist()
    ]


def test_uids_are_datacomps_subset_format(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    url = make_run(parquet_pool).emit(replace(MATCHED, part_bytes=300))
    array = np.load(Path(url) / "uids.npy")
    assert array.dtype == np.dtype("u8,u8")
    found = [f"{int(high):016x}{int(low):016x}" for high, low in array]
    assert found == sorted(uids_of(url))
    assert load(url).repeated_uids == len(found) - len(set(found)) > 0


def test_uids_sort_as_unsigned_hex(tmp_path: Path) -> None:
    digits = ["f" * 32, "0" * 32, "8" + "0" * 31, "7" + "f" * 31, "0" * 31 + "1"]
    digits += ["8" + "0" * 30 + last for last in "312"] + ["f" * 32]
    pq.write_table(pa.table({"uid": digits}), tmp_path / "p.parquet")
    array = sorted_uids(str(tmp_path), [FileRecord("p.parquet", "pairs", 0, "", 9)])
    assert [f"{int(a):016x}{int(b):016x}" for a, b in array] == sorted(digits)
    assert sorted_uids(str(tmp_path), []).shape == (0,)


def test_counts_in_both_forms(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    url = Path(run.emit(BALANCED))
    counts = np.load(url / f"counts-{ALL}.npy")
    assert counts.dtype == np.dtype("<i8")
    assert np.array_equal(counts, run.counts[ALL])
    named = json.loads((url / "entry_counts.json").read_bytes())
    assert list(named.values()) == counts.tolist()
    assert list(named)[:3] == ["dog", "cat", "a"]
    assert named["never"] == 0


def test_the_manifest_says_what_balancing_did(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    plan = run.plan_for(BALANCED)
    manifest = load(run.emit(BALANCED))
    assert manifest.totals == plan.totals
    assert manifest.expected_size == plan.expected
    assert manifest.cuts[ALL]["t"] == 4.0
    counts = run.counts[ALL]
    assert manifest.tail_shares[ALL] == counts[counts < 4].sum() / counts.sum()
    assert abs(manifest.totals.kept - plan.expected) < 4 * plan.deviation
    assert load(run.emit(MATCHED)).expected_size == load(run.emit(MATCHED)).totals.kept


def test_every_file_is_listed_and_nothing_else_is_there(make_run, image_pool: Path) -> None:  # type: ignore[no-untyped-def]
    url = Path(make_run(image_pool).emit(MATCHED))
    listed = [file.name for file in load(str(url)).files]
    assert sorted([*listed, "manifest.json"]) == sorted(path.name for path in url.iterdir())


def test_emitting_again_gives_the_same_bytes(make_run, image_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(image_pool)
    url = Path(run.emit(MATCHED))
    before = {path.name: path.read_bytes() for path in url.iterdir()}
    assert run.emit(MATCHED) == str(url)
    assert {path.name: path.read_bytes() for path in url.iterdir()} == before


def test_a_dataset_may_be_empty(make_run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pq.write_table(pa.table({"text": ["nothing", "here"]}), tmp_path / "p.parquet")
    for request in (MATCHED, BALANCED):
        manifest = load(make_run(tmp_path / "p.parquet").emit(request))
        assert manifest.totals.unmatched == manifest.totals.pairs == 2
        assert manifest.of_role("pairs") == []


def test_the_card_depends_on_the_emission_alone(make_run, image_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(image_pool)
    plan = run.plan_for(BALANCED)
    pairs = [FileRecord("p", "pairs", 1, "", 5), FileRecord("q", "pairs", 1, "", 6)]
    images = [FileRecord("i", "images", 1, "", 4)]
    card = dataset_card(plan, pairs, images)
    assert "# Balanced dataset " + plan.emission_id in card
    assert "11 image-text pairs out of 9 read" in card
    assert "t = 4.0 (all), seed 7, semantics pair." in card
    assert "1 of them, 4 samples" in card
    assert "| not chosen | 0 |" in card
    assert "webdataset.WebDataset" not in dataset_card(plan, pairs, [])
    assert "No cut." in dataset_card(run.plan_for(MATCHED), pairs, [])
