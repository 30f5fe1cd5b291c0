import io
import itertools
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clipcurate.balancing import coins
from clipcurate.datasets.content import content_hash
from clipcurate.datasets.manifest import load, read_pairs
from clipcurate.datasets.parts import dataset_schema, kept_batches, write_pairs
from clipcurate.datasets.request import EmissionRequest
from clipcurate.errors import InputChangedError
from clipcurate.hashing import hash_bytes, hex_to_halves
from clipcurate.metadata import ALL
from clipcurate.pools import find_shards, plan_tasks, read_slice

RAW, MATCHED = EmissionRequest("raw"), EmissionRequest("matched")
BALANCED = EmissionRequest("balanced", t=4.0, seed=7)


def pool_rows(run) -> list[dict[str, Any]]:  # type: ignore[no-untyped-def]
    plan = run.plan
    return [
        row
        for task in plan.tasks
        for piece in task.slices
        for table in read_slice(plan.shards[piece.shard], piece, plan.columns)
        for row in table.to_pylist()
    ]


def test_raw_is_every_readable_pair_in_order(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    expected = [row for row in pool_rows(run) if row["text"] is not None]
    kept = run.kept(RAW)
    for name in ("url", "text", "score", "site"):
        assert [row[name] for row in kept] == [row[name] for row in expected]
    assert [row["metadata_lang"] for row in kept] == [ALL] * len(expected)
    assert any(row["entry_ids"] == [] and row["critical_t"] == float("inf") for row in kept)


def test_kinds_are_nested_and_rows_prove_themselves(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    raw, matched = run.kept(replace(RAW, seed=7)), run.kept(replace(MATCHED, seed=7))
    balanced = run.kept(BALANCED)
    assert matched == [row for row in raw if row["entry_ids"]]
    assert balanced == [row for row in matched if row["critical_t"] <= 4.0]
    assert 0 < len(balanced) < len(matched) < len(raw)
    counts = run.counts[ALL].tolist()
    for row in matched:
        key = hash_bytes(row["uid"].encode(), b"\0", row["text"].encode())
        u = float(coins(hex_to_halves([key]), 7)[0])
        miss = 1.0
        for entry in row["entry_ids"]:
            miss *= 1.0 - min(1.0, row["critical_t"] / counts[entry])
        assert miss < 1 - u


CHOSEN, WHOLE = replace(BALANCED, semantics="metaclip2"), replace(BALANCED, semantics="record")


@pytest.mark.parametrize("request_", [RAW, MATCHED, BALANCED, CHOSEN, WHOLE], ids=str)
def test_bytes_do_not_depend_on_tasks(make_run, parquet_pool: Path, request_) -> None:  # type: ignore[no-untyped-def]
    small_parts = replace(request_, part_bytes=200)
    manifests = [
        load(make_run(parquet_pool, task_rows=rows).emit(small_parts)) for rows in (9, 20, 1000)
    ]
    assert len(manifests[0].of_role("pairs")) > 3
    assert len({manifest.dataset_hash for manifest in manifests}) == 1
    assert len({manifest.files for manifest in manifests}) == 1


def test_content_does_not_depend_on_the_size_of_parts(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    urls = [run.emit(replace(MATCHED, part_bytes=size)) for size in (300, 10**9)]
    one, two = (pa.concat_tables(read_pairs(url, load(url))) for url in urls)
    assert content_hash(one) == content_hash(two)
    assert len(load(urls[0]).of_role("pairs")) > len(load(urls[1]).of_role("pairs")) == 1


def test_a_row_never_spans_parts(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    plan, scored = run.plan_for(replace(RAW, part_bytes=1)), run.scored(RAW)
    assert plan.num_parts == sum(plan.kept_records)
    seen = [
        {(batch.shard, row) for batch in kept_batches(run.plan, plan, part, scored.__getitem__)
         for row in batch.rows.tolist()}
        for part in range(plan.num_parts)
    ]  # fmt: skip
    assert all(len(places) == 1 for places in seen)
    assert len(set.union(*seen)) == plan.num_parts


def write(folder: Path, name: str, table: pa.Table, groups: int = 10) -> None:
    folder.mkdir(exist_ok=True)
    pq.write_table(table, folder / name, row_group_size=groups)


def test_shards_may_differ_in_their_other_columns(make_run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pool = tmp_path / "mixed"
    texts = {"text": ["a dog", "cat"]}
    write(pool, "0.parquet", pa.table(texts | {"n": [1, 2**40], "x": [1, 2], "l": [[1], [2, 3]]}))
    write(pool, "1.parquet", pa.table(texts | {"n": [0.5, None], "x": ["é", None], "only": [1, 2]}))
    write(pool, "2.parquet", pa.table(texts | {"x": [[1], None], "l": [["a"], []]}))
    expected = {
        "n": [1.0, float(2**40), 0.5, None, None, None],
        "x": ["1", "2", "é", None, "[1]", None],
        "l": ["[1]", "[2, 3]", None, None, '["a"]', "[]"],
        "only": [None, None, 1, 2, None, None],
    }
    runs = [make_run(pool, task_rows=rows) for rows in (1, 3, 100)]
    for run in runs:
        kept = run.kept(RAW)
        assert {name: [row[name] for row in kept] for name in expected} == expected
    assert len({load(run.emit(RAW)).dataset_hash for run in runs}) == 1


def test_a_pool_may_be_one_of_our_datasets_twice_over(make_run, parquet_pool: Path) -> None:  # type: ignore[no-untyped-def]
    first = make_run(parquet_pool).emit(MATCHED)
    second = make_run(Path(first), task_rows=2000).emit(replace(MATCHED, round=1))
    third = make_run(Path(second), task_rows=3000).emit(replace(MATCHED, round=2))
    names = pq.read_schema(next(Path(third).glob("pairs-*"))).names
    assert len(set(names)) == len(names)
    (table,) = read_pairs(third, load(third))
    for name in ("metadata_lang", "entry_ids"):
        columns = [found for found in names if found.endswith(name)]
        assert len(columns) == 3
        assert all(table[column].to_pylist() == table[name].to_pylist() for column in columns)


def test_extras_are_renamed_around_ours() -> None:
    extras = pa.schema([(name, pa.int8()) for name in ("entry_ids", "pool_entry_ids", "w")])
    assert dataset_schema(extras, images=False).names == [
        "uid", "url", "text", "lang", "metadata_lang",
        "pool_pool_entry_ids", "pool_entry_ids", "w",
        "entry_ids", "critical_t",
    ]  # fmt: skip


def test_a_pool_of_other_rows_is_noticed(make_run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pool = tmp_path / "changing"
    write(pool, "0.parquet", pa.table({"text": ["a dog", "a cat"]}))
    run = make_run(pool)
    plan, scored = run.plan_for(MATCHED), run.scored(MATCHED)
    write(pool, "0.parquet", pa.table({"text": ["a dog", "a cat", "a dog"]}))
    with pytest.raises(InputChangedError, match=r"0\.parquet"):
        list(kept_batches(run.plan, plan, 0, scored.__getitem__))
    shards = tuple(find_shards([str(pool)], run.plan.columns))
    repinned = replace(run.plan, shards=shards, tasks=tuple(plan_tasks(shards)))
    with pytest.raises(InputChangedError, match="other rows than were matched"):
        list(kept_batches(repinned, plan, 0, scored.__getitem__))


ROW = st.fixed_dictionaries(
    {
        "uid": st.sampled_from(["0" * 32, "f" * 32]),
        "url": st.sampled_from(["", "u"]),
        "text": st.text("aé", max_size=3),
        "lang": st.just(""),
        "metadata_lang": st.just("all"),
        "site": st.none() | st.sampled_from(["x", "y"]),
        "tags": st.none() | st.lists(st.sampled_from(["t"]), max_size=2),
        "entry_ids": st.lists(st.integers(0, 9), max_size=2),
        "critical_t": st.sampled_from([1.0, 2.0]),
    }
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROW, max_size=8), st.lists(st.integers(0, 8), max_size=3))
def test_a_parts_bytes_do_not_depend_on_its_batches(
    tmp_path: Path, rows: list[dict[str, Any]], cuts: list[int]
) -> None:
    extras = pa.schema([("site", pa.string()), ("tags", pa.list_(pa.string()))])
    schema = dataset_schema(extras, images=False)
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    written = []
    for ends in ([0, len(rows)], edges):
        tables = [pa.Table.from_pylist(rows[a:b], schema) for a, b in itertools.pairwise(ends)]
        number, content = write_pairs(tables, schema, tmp_path / "part")
        written.append((number, content, (tmp_path / "part").read_bytes()))
    assert written[0] == written[1]
    table = pq.read_table(tmp_path / "part")
    assert table.to_pylist() == rows
    assert written[0][:2] == (len(rows), content_hash(table))


def members(path: Path) -> dict[str, bytes]:
    found = {}
    with tarfile.open(path) as tar:
        for member in tar:
            assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
            assert (member.mode, member.mtime) == (0o644, 0)
            found[member.name] = tar.extractfile(member).read()  # type: ignore[union-attr]
    return found


@pytest.mark.parametrize("request_", [RAW, MATCHED], ids=lambda r: r.kind)
def test_images_stand_beside_their_texts(make_run, image_pool: Path, request_) -> None:  # type: ignore[no-untyped-def]
    url = make_run(image_pool).emit(request_)
    manifest = load(url)
    (table,) = read_pairs(url, manifest)
    (tar,) = manifest.of_role("images")
    found = members(Path(url) / tar.name)
    assert tar.rows == table.num_rows == len(found) // 3
    for number, pair in enumerate(table.to_pylist()):
        key = f"{0:05d}{number:07d}"
        record = json.loads(found[f"{key}.json"])
        assert found[f"{key}.jpg"] == b"image %d" % record["row"]
        assert found[f"{key}.txt"].decode() == pair["text"] == record["texts"][0]["text"]
        assert record["uid"] == pair["uid"]
        assert record["shard"] == "images.tar"
        assert record["texts"][0]["entry_ids"] == pair["entry_ids"]
        finite = np.isfinite(pair["critical_t"])
        assert record["texts"][0].get("critical_t") == (pair["critical_t"] if finite else None)


def test_one_sample_per_image_with_all_its_kept_texts(make_run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "several.tar"
    with tarfile.open(path, "w") as tar:
        for number, texts in enumerate([["dog", "nothing", "cat"], ["nothing"], ["a cat"]]):
            content = {"jpg": b"%d" % number, "json": json.dumps({"texts": texts}).encode()}
            for extension, value in content.items():
                member = tarfile.TarInfo(f"{number}.{extension}")
                member.size = len(value)
                tar.addfile(member, io.BytesIO(value))
    url = make_run(path).emit(MATCHED)
    found = members(Path(url) / load(url).of_role("images")[0].name)
    kept = [json.loads(found[name]) for name in found if name.endswith(".json")]
    assert [[text["text"] for text in record["texts"]] for record in kept] == [
        ["dog", "cat"],
        ["a cat"],
    ]
    assert load(url).totals.kept == 3
