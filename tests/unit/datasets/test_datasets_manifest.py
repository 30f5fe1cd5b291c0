import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clipcurate.datasets.manifest import FileRecord, Manifest, load, publish
from clipcurate.datasets.outcomes import Totals
from clipcurate.errors import ConflictError, DatasetError, NotFoundError

PAIRS = FileRecord("pairs-00000-ab.parquet", "pairs", 10, "0" * 32, 3, 0, "1" * 32)
CARD = FileRecord("README.md", "card", 5, "2" * 32, 0)
MANIFEST = Manifest(
    identity={"kind": "balanced", "run": {"id": "r"}},
    emission_id="e",
    totals=Totals(1, 2, 3, 4, 5, 6, 7),
    cuts={"all": {"t": 0.1, "t_hex": (0.1).hex(), "last": None}},
    tail_shares={"all": 0.06},
    expected_size=6.5,
    size_deviation=1.25,
    repeated_uids=1,
    unknown_rows=[{"inputs": [{"shard": "ä.parquet"}], "reason": "truncated"}],
    files=(PAIRS, CARD),
    provenance={"host": "h"},
)


def test_round_trip() -> None:
    again = Manifest.from_bytes(MANIFEST.to_bytes())
    assert again == MANIFEST
    assert again.dataset_hash == MANIFEST.dataset_hash
    assert again.of_role("pairs") == [PAIRS]


def test_a_reader_without_us_finds_the_totals() -> None:
    value = json.loads(MANIFEST.to_bytes())
    assert value["pairs_read"] == sum(value["totals"].values()) == 28
    assert value["files"][1] == {
        "name": "README.md", "role": "card", "size": 5, "hash": "2" * 32, "rows": 0,
    }  # fmt: skip


CHANGES: dict[str, Callable[[Manifest], Manifest]] = {
    "identity": lambda m: replace(m, identity=m.identity | {"seed": 1}),
    "totals": lambda m: replace(m, totals=Totals(kept=28)),
    "cuts": lambda m: replace(m, cuts={}),
    "files": lambda m: replace(m, files=(PAIRS,)),
    "order": lambda m: replace(m, files=(CARD, PAIRS)),
    "rows": lambda m: replace(m, files=(replace(PAIRS, rows=4), CARD)),
    "bytes": lambda m: replace(m, files=(replace(PAIRS, hash="3" * 32), CARD)),
    "content": lambda m: replace(m, files=(replace(PAIRS, content="3" * 32), CARD)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_dataset_hash_covers(change: str) -> None:
    assert CHANGES[change](MANIFEST).dataset_hash != MANIFEST.dataset_hash


def test_provenance_is_not_hashed() -> None:
    elsewhere = replace(MANIFEST, provenance={"host": "other"})
    assert elsewhere.dataset_hash == MANIFEST.dataset_hash
    assert elsewhere.content_hash == MANIFEST.content_hash


def edit(url: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = url / "manifest.json"
    value = json.loads(path.read_bytes())
    change(value)
    path.write_text(json.dumps(value))


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value["totals"].update(kept=8),
        lambda value: value["identity"].update(seed=9),
        lambda value: value["cuts"]["all"].update(t=0.2),
        lambda value: value["files"].pop(),
        lambda value: value["files"][0].update(rows=4),
        lambda value: value["files"][0].update(surprise=4),
        lambda value: value.update(dataset_hash="0" * 32),
        lambda value: value.update(content_hash="0" * 32),
        lambda value: value.update(pairs_read=29),
        lambda value: value.update(format=99),
        lambda value: value.pop("cuts"),
        lambda value: value.pop("dataset_hash"),
    ],
)
def test_an_edited_manifest_is_refused(tmp_path: Path, change: Any) -> None:
    publish(str(tmp_path), MANIFEST)
    edit(tmp_path, change)
    with pytest.raises(DatasetError, match=r"manifest\.json"):
        load(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff", b'{"format": 1}'])
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(DatasetError, match=r"manifest\.json"):
        load(str(tmp_path))


def test_without_a_manifest_there_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no dataset here"):
        load(str(tmp_path))


def test_publishing_again_changes_nothing(tmp_path: Path) -> None:
    publish(str(tmp_path), MANIFEST)
    publish(str(tmp_path), replace(MANIFEST, provenance={"host": "later"}))
    assert load(str(tmp_path)) == MANIFEST


def test_another_dataset_is_never_overwritten(tmp_path: Path) -> None:
    publish(str(tmp_path), MANIFEST)
    with pytest.raises(ConflictError, match="another dataset of the same identity"):
        publish(str(tmp_path), replace(MANIFEST, files=(CARD,)))
    assert load(str(tmp_path)) == MANIFEST
