from pathlib import Path

import pyarrow as pa
import pytest

from clipcurate import storage
from clipcurate.errors import InvalidInputError, NotFoundError, UnavailableError
from clipcurate.matching import Matcher, tables_key
from clipcurate.metadata import Metadata
from clipcurate.rpc.references import reference
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.matcher.library import Library
from services.matcher.tables import TableStore

LISTS = {"en": Metadata(("cat", "dog")), "zh": Metadata(("猫", "狗")), "th": Metadata(("แมว",))}


@pytest.fixture
def spec(tmp_path: Path) -> pb.RunSpec:
    refs = []
    for name, metadata in LISTS.items():
        stored = storage.publish_bytes(metadata.to_bytes(), str(tmp_path), name, ".parquet")
        refs.append(
            pb.MetadataRef(
                language=name,
                fingerprint=metadata.fingerprint,
                num_entries=len(metadata.entries),
                object=reference(str(tmp_path), stored),
            )
        )
    return pb.RunSpec(
        output_url=str(tmp_path / "out"), metadata=refs, rule="metaclip1", engine="token-trie"
    )


def library(tmp_path: Path, budget: int = 1 << 30) -> Library:
    return Library(TableStore(tmp_path / "local"), budget)


def held(found: Library) -> set[str]:
    names = {metadata.fingerprint: name for name, metadata in LISTS.items()}
    return {names[which.fingerprint] for which in found.list()}


def test_languages_are_loaded_when_they_are_asked_for(spec: pb.RunSpec, tmp_path: Path) -> None:
    found = library(tmp_path)
    matcher_for = found.for_run(spec)
    assert held(found) == set()
    matcher = matcher_for("zh")
    assert matcher is not None
    assert matcher.match(pa.array(["狗"])).entry_ids.tolist() == [1]
    assert held(found) == {"zh"}
    assert matcher_for("fr") is None
    assert matcher_for("zh") is matcher
    assert len(list((tmp_path / "out" / "tables").iterdir())) == 1


def test_nothing_can_be_asked_for_until_all_is_pinned(tmp_path: Path) -> None:
    """Else a client that meets a matcher on its way up is told that its metadata are unknown."""
    found = Library(TableStore(tmp_path / "local"), 0, expected=2)
    for name in ("en", "zh"):
        with pytest.raises(UnavailableError, match="call again"):
            found.get(LISTS["en"].fingerprint)
        found.pin(LISTS[name], "metaclip1", "token-trie")
    assert found.get(LISTS["en"].fingerprint).entries.to_pylist() == ["cat", "dog"]


def test_the_budget_keeps_the_last_one_used(spec: pb.RunSpec, tmp_path: Path) -> None:
    found = library(tmp_path, budget=1)
    matcher_for = found.for_run(spec)
    for name in ("en", "zh", "en"):
        assert matcher_for(name) is not None
        assert held(found) == {name}


def test_tables_once_built_do_without_the_entries(spec: pb.RunSpec, tmp_path: Path) -> None:
    library(tmp_path).for_run(spec)("en")
    for path in tmp_path.glob("*.parquet"):
        path.unlink()
    assert library(tmp_path).for_run(spec)("en") is not None
    with pytest.raises(NotFoundError):
        library(tmp_path).for_run(spec)("zh")


def test_clients_name_metadata_by_fingerprint(spec: pb.RunSpec, tmp_path: Path) -> None:
    found = library(tmp_path, budget=1)
    with pytest.raises(NotFoundError, match="loaded: none"):
        found.get("")
    found.pin(LISTS["th"], "metaclip1", "token-trie")
    assert len(found.get("").entries) == 1
    matcher_for = found.for_run(spec)
    assert matcher_for("en") is not None
    assert matcher_for("zh") is not None
    assert held(found) == {"th", "zh"}, "pinned metadata stays"
    with pytest.raises(InvalidInputError, match="name a metadata fingerprint"):
        found.get("")
    assert found.get(LISTS["zh"].fingerprint) is matcher_for("zh")
    with pytest.raises(NotFoundError, match=LISTS["en"].fingerprint):
        found.get(LISTS["en"].fingerprint)


def test_one_metadata_under_two_rules_is_ambiguous(spec: pb.RunSpec, tmp_path: Path) -> None:
    found = library(tmp_path)
    for rule in ("metaclip1", "metaclip2"):
        found.pin(LISTS["th"], rule, "token-trie")
    assert [which.rule for which in found.list()] == ["metaclip1", "metaclip2"]
    for name in ("", LISTS["th"].fingerprint):
        with pytest.raises(InvalidInputError, match=r"metaclip1.*metaclip2"):
            found.get(name)


def test_tables_of_another_matcher_are_not_taken(spec: pb.RunSpec, tmp_path: Path) -> None:
    key = tables_key(LISTS["th"].fingerprint, "metaclip1", "token-trie")
    (tmp_path / "local").mkdir()
    Matcher.build(["zzz"]).save(tmp_path / "local" / key)
    found = library(tmp_path)
    found.pin(LISTS["th"], "metaclip1", "token-trie")
    assert found.get("").entries.to_pylist() == list(LISTS["th"].entries)
