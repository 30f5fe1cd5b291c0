"""What is held against a subset is the emission at its t, made from the pool."""

import io
import json
import math
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipcurate.balancing import Semantics
from clipcurate.datasets.images import tar_samples
from clipcurate.datasets.manifest import Manifest, load, read_pairs
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.rethreshold import rethreshold
from clipcurate.datasets.verify import verify_dataset
from clipcurate.errors import ConflictError, DatasetError, InvalidInputError
from clipcurate.metadata import ALL
from clipcurate.pools import Columns

BALANCED = EmissionRequest("balanced", t=12.0, seed=7, part_bytes=300)
MATCHED = EmissionRequest("matched", seed=7, part_bytes=300)
SIZED = EmissionRequest("balanced", size=30, seed=7, part_bytes=300)
T = 4.0


def rows(url: str) -> list[dict[str, Any]]:
    """All rows, but for where their images lie: parts of another dataset begin elsewhere."""
    tables = read_pairs(url, load(url))
    return [
        row
        for table in tables
        for row in table.select(
            [name for name in table.column_names if name != "sample"]
        ).to_pylist()
    ]


def samples(url: str) -> list[tuple[bytes, ...]]:
    found = []
    for file in load(url).of_role("images"):
        with (Path(url) / file.name).open("rb") as tar:
            found += [tuple(members.values()) for _, members in tar_samples(tar, file.name)]
    return found


@pytest.fixture
def many_texts(tmp_path: Path) -> Path:
    """A tar of images with several texts each."""
    path = tmp_path / "many.tar"
    texts = ["a dog", "a red dog, a cat", "nothing", "in new york", "a"]
    with tarfile.open(path, "w") as tar:
        for number in range(40):
            chosen = [texts[(number + j) % 5] for j in range(number % 4)]
            members = {"jpg": b"image %d" % number, "json": json.dumps({"texts": chosen}).encode()}
            for extension, content in members.items():
                member = tarfile.TarInfo(f"{number:03d}.{extension}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path


PARENTS = {
    "balanced": BALANCED,
    "matched": MATCHED,
    "sized": SIZED,
    "metaclip2": replace(BALANCED, semantics="metaclip2"),
    "record": replace(MATCHED, semantics="record"),
}


@pytest.mark.parametrize("parent", PARENTS.values(), ids=PARENTS)
@pytest.mark.parametrize("pool", ["parquet_pool", "many_texts"])
def test_a_subset_has_the_rows_of_the_emission_at_its_t(  # type: ignore[no-untyped-def]
    make_run, request, tmp_path: Path, pool: str, parent: EmissionRequest
) -> None:
    columns = Columns(text="texts") if pool == "many_texts" else None
    run = make_run(request.getfixturevalue(pool), task_rows=30, columns=columns)
    url = run.emit(parent)
    direct = run.emit(replace(BALANCED, t=T, semantics=parent.semantics))
    subset = rethreshold(url, T, str(tmp_path / "subset"))
    assert rows(subset) == rows(direct)
    assert samples(subset) == samples(direct)
    assert len(samples(subset)) < len(samples(url)) or pool == "parquet_pool"
    found, wanted = verify_dataset(subset, run.folder), load(direct)
    assert (found.totals, found.cuts) == (wanted.totals, wanted.cuts)
    assert found.tail_shares == wanted.tail_shares
    assert found.identity == wanted.identity | {"subset_of": load(url).dataset_hash}
    assert found.of_role("uids")[0].hash == wanted.of_role("uids")[0].hash
    assert load(url).dataset_hash in (Path(subset) / "README.md").read_text()


def copies(path: Path) -> Path:
    """A pool full of exact repeats: four different pairs, with what tells their rows apart."""
    texts = ["a dog", "a red dog, a cat", "in new york", "a"]
    table = {"url": [t.replace(" ", "") for t in texts] * 12, "text": texts * 12}
    pq.write_table(pa.table(table | {"number": range(48)}), path, row_group_size=7)
    return path


@pytest.mark.parametrize("semantics", ["pair", "metaclip2"])
@pytest.mark.parametrize("pool", ["parquet_pool", "many_texts", "copies"])
def test_a_subset_of_any_size_has_the_rows_of_the_emission_of_that_size(  # type: ignore[no-untyped-def]
    make_run, request, tmp_path: Path, pool: str, semantics: Semantics
) -> None:
    columns = Columns(text="texts") if pool == "many_texts" else None
    path = copies(tmp_path / "c.parquet") if pool == "copies" else request.getfixturevalue(pool)
    run = make_run(path, task_rows=30, columns=columns)
    matched = run.emit(replace(MATCHED, semantics=semantics))
    sized = run.emit(replace(SIZED, size=17, semantics=semantics))
    for parent, size in ((matched, 17), (matched, 9), (sized, 17), (sized, 9)):
        direct = run.emit(replace(SIZED, size=size, semantics=semantics))
        subset = rethreshold(parent, size=size, output=str(tmp_path / f"{size}-{parent[-9:]}"))
        assert rows(subset) == rows(direct)
        assert samples(subset) == samples(direct)
        assert verify_dataset(subset, run.folder).totals == load(direct).totals
    twice = rethreshold(subset, size=4)
    assert rows(twice) == rows(run.emit(replace(SIZED, size=4, semantics=semantics)))
    verify_dataset(twice, run.folder)


def test_a_tail_share_as_the_emission_has_it(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    subset = rethreshold(run.emit(MATCHED), tail_share=0.2)
    assert rows(subset) == rows(run.emit(replace(BALANCED, t=None, tail_share=0.2)))
    verify_dataset(subset, run.folder)
    literal = rethreshold(run.emit(MATCHED), tail_share=1e-6, tail_rule="literal")
    assert load(literal).identity["target"] == {"tail_share": 1e-6, "tail_rule": "literal"}
    verify_dataset(literal, run.folder)


def all_bytes(url: str) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in Path(url).iterdir() if p.name != "manifest.json"}


def test_the_same_inputs_give_the_same_bytes(make_run, many_texts, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(many_texts, columns=Columns(text="texts"))
    url = run.emit(BALANCED)
    one, two = (rethreshold(url, T, str(tmp_path / name)) for name in ("one", "two"))
    assert all_bytes(one) == all_bytes(two)
    assert load(one).dataset_hash == load(two).dataset_hash
    assert rethreshold(url, T, one) == one, "a second time changes nothing"
    beside = rethreshold(url, T)
    assert Path(beside).parent == Path(url).parent
    assert Path(beside).name == f"balanced-{load(one).emission_id[:16]}"


def test_at_its_own_t_a_dataset_has_the_same_parts(make_run, many_texts) -> None:  # type: ignore[no-untyped-def]
    url = make_run(many_texts, columns=Columns(text="texts")).emit(BALANCED)
    same = rethreshold(url, 12.0)
    for role in ("pairs", "images"):
        assert load(same).of_role(role) == load(url).of_role(role)


def test_nested_twice(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    url = run.emit(BALANCED)
    twice = rethreshold(rethreshold(url, 8.0), T)
    assert rows(twice) == rows(rethreshold(url, T))
    verify_dataset(twice, run.folder)


def test_nothing_may_be_left(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    subset = rethreshold(run.emit(BALANCED), 1e-9)
    assert verify_dataset(subset, run.folder).totals.kept == 0
    assert load(subset).of_role("pairs") == []


def q(row: dict[str, Any], counts: Any, t: float) -> float:
    return 1 - math.prod(1 - min(1, t / int(counts[entry])) for entry in row["entry_ids"])


def test_the_expected_size_is_that_given_the_dataset(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    counts = run.counts[ALL]
    url = run.emit(BALANCED)
    found = load(rethreshold(url, T))
    stays = [q(row, counts, T) / q(row, counts, 12.0) for row in rows(url)]
    assert found.expected_size == pytest.approx(sum(stays))
    assert found.size_deviation == pytest.approx(math.sqrt(sum(p * (1 - p) for p in stays)))


@pytest.mark.parametrize("semantics", ["pair", "record"])
def test_given_all_matched_pairs_the_expected_size_is_the_emissions(  # type: ignore[no-untyped-def]
    make_run, parquet_pool: Path, semantics: Semantics
) -> None:
    run = make_run(parquet_pool)
    subset = load(rethreshold(run.emit(replace(MATCHED, semantics=semantics)), T))
    direct = load(run.emit(replace(BALANCED, t=T, semantics=semantics)))
    assert subset.expected_size == pytest.approx(direct.expected_size, abs=1e-6)
    assert subset.size_deviation == pytest.approx(direct.size_deviation, abs=1e-6)


def test_what_a_dataset_does_not_hold_is_refused(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    with pytest.raises(InvalidInputError, match=r"its own is 12. Ask for a smaller --t, --size or"):
        rethreshold(run.emit(BALANCED), float(np.nextafter(12.0, 13.0)))
    sized = run.emit(SIZED)
    cut = load(sized).cuts[ALL]["t"]
    with pytest.raises(InvalidInputError, match="would keep pairs"):
        rethreshold(sized, cut)
    rethreshold(sized, float(np.nextafter(cut, 0.0)))
    with pytest.raises(InvalidInputError, match="emit a matched or balanced one"):
        rethreshold(run.emit(EmissionRequest("raw")), T)
    with pytest.raises(InvalidInputError, match="t must be positive"):
        rethreshold(sized, 0.0)
    rethreshold(sized, size=30)
    with pytest.raises(InvalidInputError, match="holds 30 pairs, fewer than the 31 asked"):
        rethreshold(sized, size=31)
    with pytest.raises(InvalidInputError, match="would keep pairs"):
        rethreshold(sized, tail_share=0.999)
    with pytest.raises(InvalidInputError, match="exactly one"):
        rethreshold(sized)


def test_another_dataset_is_left_alone_and_damage_is_noticed(make_run, many_texts) -> None:  # type: ignore[no-untyped-def]
    run = make_run(many_texts, columns=Columns(text="texts"))
    url = run.emit(BALANCED)
    before = all_bytes(url)
    with pytest.raises(ConflictError, match="another dataset is here"):
        rethreshold(url, T, url)
    assert all_bytes(url) == before
    manifest: Manifest = load(url)
    for role in ("images", "pairs"):
        path = Path(url) / manifest.of_role(role)[0].name
        content = bytearray(path.read_bytes())
        content[600] ^= 1
        path.write_bytes(content)
        with pytest.raises((DatasetError, pa.ArrowException)):
            rethreshold(url, T)


def test_a_subset_of_a_dataset_from_converged_counts(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool, task_rows=30, announced=200, tasks=(1, 3))
    url = rethreshold(run.emit(replace(BALANCED, t=40.0)), T)
    assert verify_dataset(url, run.folder).identity["quarantined"] == []
    assert rows(url) == run.kept(replace(BALANCED, t=T))


def test_a_subset_of_an_open_pool_s_dataset_says_so_too(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool, task_rows=30, announced=1000)
    url = rethreshold(run.emit(replace(BALANCED, t=40.0)), T)
    assert verify_dataset(url, run.folder).identity["projected"]["announced"] == 1000
    assert rows(url) == run.kept(replace(BALANCED, t=T))
