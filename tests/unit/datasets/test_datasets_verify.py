"""Each test breaks one thing as a careful forger would: all hashes are made to fit again."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipcurate.balancing import critical_t
from clipcurate.datasets.content import content_hash
from clipcurate.datasets.manifest import Manifest, load
from clipcurate.datasets.outcomes import Totals
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.verify import verify_dataset
from clipcurate.errors import DatasetError, NotFoundError
from clipcurate.hashing import hash_json, hash_pairs, hex_to_halves
from clipcurate.matching import Matcher
from clipcurate.metadata import ALL
from clipcurate.pools.read import BATCH_ROWS

RAW, MATCHED = EmissionRequest("raw"), EmissionRequest("matched")
BALANCED = EmissionRequest("balanced", t=4.0, seed=7)
SIZED = EmissionRequest("balanced", size=11, seed=3)


CHOSEN, WHOLE = replace(BALANCED, semantics="metaclip2"), replace(BALANCED, semantics="record")
REQUESTS = [
    *(RAW, MATCHED, BALANCED, SIZED, CHOSEN, WHOLE),
    *(replace(MATCHED, semantics="metaclip2"), replace(MATCHED, semantics="record")),
    replace(SIZED, semantics="metaclip2"),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: f"{r.kind}-{r.size}-{r.semantics}")
@pytest.mark.parametrize("pool", ["parquet_pool", "image_pool"])
def test_what_we_write_holds(make_run, request, pool: str, request_: EmissionRequest) -> None:  # type: ignore[no-untyped-def]
    run = make_run(request.getfixturevalue(pool), task_rows=30)
    size = request_.size and min(request_.size, 4)
    url = run.emit(replace(request_, part_bytes=300, size=size))
    told: list[str] = []
    assert verify_dataset(url, run.folder, told.append) == load(url)
    assert any("again" in line for line in told)


def test_an_empty_dataset_holds(make_run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pq.write_table(pa.table({"text": ["nothing", "here"]}), tmp_path / "p.parquet")
    run = make_run(tmp_path / "p.parquet")
    verify_dataset(run.emit(BALANCED), run.folder)


@pytest.fixture
def dataset(make_run, parquet_pool: Path) -> tuple[Any, Path]:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    return run, Path(run.emit(BALANCED))


@pytest.mark.parametrize("role", ["pairs", "uids", "counts", "entry_counts", "card"])
def test_a_flipped_bit_in_any_file(dataset, role: str) -> None:  # type: ignore[no-untyped-def]
    _, url = dataset
    path = url / load(str(url)).of_role(role)[0].name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="its bytes are not what was written"):
        verify_dataset(str(url))


def test_a_flipped_bit_in_a_tar(make_run, image_pool: Path) -> None:  # type: ignore[no-untyped-def]
    url = Path(make_run(image_pool).emit(MATCHED))
    path = next(url.glob("images-*.tar"))
    path.write_bytes(path.read_bytes().replace(b"image 0", b"image 9"))
    with pytest.raises(DatasetError, match="images-"):
        verify_dataset(str(url))


def test_a_cut_off_and_a_missing_file(dataset) -> None:  # type: ignore[no-untyped-def]
    _, url = dataset
    (url / "uids.npy").write_bytes(b"")
    with pytest.raises(DatasetError, match="0 bytes, the manifest says"):
        verify_dataset(str(url))
    (url / "uids.npy").unlink()
    with pytest.raises(NotFoundError, match=r"uids\.npy"):
        verify_dataset(str(url))


def test_no_dataset_and_no_run(dataset, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    _, url = dataset
    with pytest.raises(NotFoundError, match="no dataset"):
        verify_dataset(str(tmp_path))
    with pytest.raises(NotFoundError, match="no frozen run"):
        verify_dataset(str(url), str(url))


Forge = Callable[..., None]


@pytest.fixture
def forge(dataset, rewrite, put_file) -> Forge:  # type: ignore[no-untyped-def]
    """Change the rows of the first part, and everything that depends on them."""
    _, url = dataset

    def change(edit: Callable[[pa.Table], pa.Table], **totals: int) -> None:
        manifest = load(str(url))
        (file,) = manifest.of_role("pairs")
        table = edit(pq.read_table(url / file.name))
        sink = io.BytesIO()
        pq.write_table(table, sink)
        more = {"rows": table.num_rows, "content": content_hash(table)}
        files = put_file(str(url), manifest.files, file.name, sink.getvalue(), **more)
        halves = hex_to_halves(sorted(table["uid"].to_pylist()))
        uids = np.ascontiguousarray(halves).view("u8,u8").reshape(-1)
        sink = io.BytesIO()
        np.save(sink, uids)
        files = put_file(str(url), files, "uids.npy", sink.getvalue(), rows=len(uids))
        repeated = len(uids) - len(np.unique(uids))
        counted = Totals(**(vars(manifest.totals) | {"kept": table.num_rows} | totals))
        rewrite(
            str(url),
            lambda m: replace(m, files=files, totals=counted, repeated_uids=repeated),
        )

    return change


def with_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    column = pa.array(values, table.schema.field(name).type)
    return table.set_column(table.column_names.index(name), name, column)


def test_an_honest_rewrite_holds(dataset, forge: Forge) -> None:  # type: ignore[no-untyped-def]
    run, url = dataset
    forge(lambda table: table)
    verify_dataset(str(url), run.folder)


def test_a_row_dropped_with_everything_made_to_fit(dataset, forge: Forge) -> None:  # type: ignore[no-untyped-def]
    run, url = dataset
    totals = load(str(url)).totals
    forge(lambda table: table.slice(1), dropped=totals.dropped + 1)
    verify_dataset(str(url))
    with pytest.raises(DatasetError, match="other pairs are kept"):
        verify_dataset(str(url), run.folder)


def test_a_last_row_dropped_and_a_row_repeated(dataset, forge: Forge) -> None:  # type: ignore[no-untyped-def]
    run, url = dataset
    forge(lambda table: pa.concat_tables([table, table.slice(table.num_rows - 1)]))
    verify_dataset(str(url))
    with pytest.raises(DatasetError, match="pairs that the pool does not"):
        verify_dataset(str(url), run.folder)
    forge(lambda table: table.slice(0, table.num_rows - 2))
    with pytest.raises(DatasetError, match="other pairs are kept"):
        verify_dataset(str(url), run.folder)


def test_a_dropped_row_with_totals_left_alone(dataset, forge: Forge) -> None:  # type: ignore[no-untyped-def]
    _, url = dataset
    kept = load(str(url)).totals.kept
    forge(lambda table: table.slice(1), kept=kept)
    with pytest.raises(DatasetError, match=f"{kept - 1} rows, but {kept} pairs are kept"):
        verify_dataset(str(url))


def test_outcomes_moved_between_totals(dataset, forge: Forge) -> None:  # type: ignore[no-untyped-def]
    run, url = dataset
    totals = load(str(url)).totals
    forge(lambda t: t, unmatched=totals.unmatched + 1, rejected=totals.rejected - 1)
    verify_dataset(str(url))
    with pytest.raises(DatasetError, match="the pool gives"):
        verify_dataset(str(url), run.folder)


def test_a_text_that_matches_something_else(dataset, forge: Forge) -> None:  # type: ignore[no-untyped-def]
    _, url = dataset
    forge(lambda t: with_column(t, "text", ["never", *t["text"].to_pylist()[1:]]))
    with pytest.raises(DatasetError, match="other entries match"):
        verify_dataset(str(url))


def test_entry_ids_that_do_not_match(dataset, forge: Forge) -> None:  # type: ignore[no-untyped-def]
    _, url = dataset
    forge(lambda t: with_column(t, "entry_ids", [[5], *t["entry_ids"].to_pylist()[1:]]))
    with pytest.raises(DatasetError, match="other entries match"):
        verify_dataset(str(url))


def test_a_coin_that_was_not_tossed(dataset, forge: Forge) -> None:  # type: ignore[no-untyped-def]
    _, url = dataset
    forge(lambda t: with_column(t, "critical_t", [0.5, *t["critical_t"].to_pylist()[1:]]))
    with pytest.raises(DatasetError, match="critical t differs"):
        verify_dataset(str(url))


def test_a_language_that_nobody_matches(dataset, forge: Forge) -> None:  # type: ignore[no-untyped-def]
    _, url = dataset
    forge(lambda t: with_column(t, "metadata_lang", ["xx", *t["metadata_lang"].to_pylist()[1:]]))
    with pytest.raises(DatasetError, match="no metadata for its language"):
        verify_dataset(str(url))


def swapped(counts: Any, keeps: bool) -> Callable[[pa.Table], pa.Table]:
    """Replace the first text by another one whose own coin keeps (or drops) it."""

    def edit(table: pa.Table) -> pa.Table:
        for number in range(10_000):
            text = f"red dog {number}"
            matches = Matcher.build(["dog", "cat", "a", "red dog"]).match(pa.array([text]))
            uid = table["uid"][0].as_py()
            (critical,) = critical_t(
                matches, counts, hash_pairs(pa.array([uid]), pa.array([text])), 7
            )
            if (critical <= 4.0) == keeps:
                break
        for name, value in (
            ("text", text),
            ("entry_ids", matches[0].tolist()),
            ("critical_t", critical),
        ):
            table = with_column(table, name, [value, *table[name].to_pylist()[1:]])
        return table

    return edit


def test_a_pair_that_its_coin_drops(dataset, forge: Forge) -> None:  # type: ignore[no-untyped-def]
    run, url = dataset
    forge(swapped(run.counts[ALL], keeps=False))
    with pytest.raises(DatasetError, match="critical t above the cut"):
        verify_dataset(str(url))


def test_a_text_that_is_not_the_pools(dataset, forge: Forge) -> None:  # type: ignore[no-untyped-def]
    run, url = dataset
    forge(swapped(run.counts[ALL], keeps=True))
    verify_dataset(str(url))
    with pytest.raises(DatasetError, match="other pairs are kept"):
        verify_dataset(str(url), run.folder)


def test_an_unmatched_row_in_a_matched_dataset(make_run, parquet_pool, rewrite) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    url = run.emit(RAW)

    def as_matched(manifest: Manifest) -> Manifest:
        identity = manifest.identity | {"kind": "matched"}
        return replace(manifest, identity=identity, emission_id=hash_json(identity))

    rewrite(url, as_matched)
    with pytest.raises(DatasetError, match="no entry matches"):
        verify_dataset(url)


def as_semantics(name: str) -> Callable[[Manifest], Manifest]:
    def edit(manifest: Manifest) -> Manifest:
        identity = manifest.identity | {"semantics": name}
        return replace(manifest, identity=identity, emission_id=hash_json(identity))

    return edit


def test_semantics_that_were_not_followed(make_run, parquet_pool: Path, rewrite) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    paired, chosen, whole = map(run.emit, (BALANCED, CHOSEN, WHOLE))
    rewrite(whole, as_semantics("pair"))
    with pytest.raises(DatasetError, match="critical t differs"):
        verify_dataset(whole)
    rewrite(paired, as_semantics("record"))
    with pytest.raises(DatasetError, match="other pairs are kept"):
        verify_dataset(paired, run.folder)
    rewrite(chosen, as_semantics("pair"))
    verify_dataset(chosen)
    with pytest.raises(DatasetError, match="other pairs are kept"):
        verify_dataset(chosen, run.folder)


@pytest.mark.parametrize("request_", [CHOSEN, WHOLE], ids=lambda r: r.semantics)
def test_an_image_whose_texts_are_read_in_several_batches(
    make_run: Any, tmp_path: Path, request_: EmissionRequest
) -> None:
    texts = [[f"a dog {n}" for n in range(BATCH_ROWS + 5)], ["a cat"], [f"cat {n}" for n in "abc"]]
    pq.write_table(pa.table({"url": ["u", "v", "w"], "text": texts}), tmp_path / "p.parquet")
    run = make_run(tmp_path / "p.parquet")
    everything = replace(MATCHED, semantics=request_.semantics)
    for request in (request_, everything):
        verify_dataset(run.emit(request), run.folder)
    images = 3 if request_ is CHOSEN else sum(map(len, texts))
    assert run.plan_for(everything).totals.kept == images


EDITS: dict[str, tuple[Callable[[Manifest], Manifest], str]] = {
    "the identity": (
        lambda m: replace(m, identity=m.identity | {"seed": 8}),
        "the emission id is not its hash",
    ),
    "the tail share": (lambda m: replace(m, tail_shares={ALL: 0.5}), "tail shares"),
    "repeated uids": (lambda m: replace(m, repeated_uids=99), "uids are repeated"),
    "quarantined inputs": (
        lambda m: replace(m, unknown_rows=[{"inputs": [{"shard": "a"}], "reason": ""}]),
        "quarantined inputs are not those",
    ),
    "rows of a file": (
        lambda m: replace(
            m,
            files=(replace(m.files[0], rows=m.files[0].rows - 1), *m.files[1:]),
            totals=replace(m.totals, kept=m.totals.kept - 1),
        ),
        "rows, not",
    ),
}


@pytest.mark.parametrize("what", EDITS)
def test_an_edit_of_the_manifest_itself(dataset, rewrite, what: str) -> None:  # type: ignore[no-untyped-def]
    _, url = dataset
    change, message = EDITS[what]
    rewrite(str(url), change)
    with pytest.raises(DatasetError, match=message):
        verify_dataset(str(url))


def test_a_size_that_is_not_the_one_asked_for(make_run, parquet_pool: Path, rewrite) -> None:  # type: ignore[no-untyped-def]
    run = make_run(parquet_pool)
    url = run.emit(SIZED)

    def ask_for_more(manifest: Manifest) -> Manifest:
        identity = manifest.identity | {"target": {"size": 12}}
        return replace(manifest, identity=identity, emission_id=hash_json(identity))

    rewrite(url, ask_for_more)
    with pytest.raises(DatasetError, match="11 rows, but exactly 12 were asked for"):
        verify_dataset(url)


def edited_counts(named: dict[str, int]) -> dict[str, int]:
    return named | {"never": 1}


def renamed_entry(named: dict[str, int]) -> dict[str, int]:
    return {name.replace("never", "ever"): count for name, count in named.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [(edited_counts, "those of the identity's snapshot"), (renamed_entry, "other entries than")],
)
def test_other_counts_or_entries(dataset, rewrite, put_file, change, message: str) -> None:  # type: ignore[no-untyped-def]
    _, url = dataset
    named = change(json.loads((url / "entry_counts.json").read_bytes()))
    sink = io.BytesIO()
    np.save(sink, np.array(list(named.values()), "<i8"))
    files = load(str(url)).files
    files = put_file(str(url), files, "entry_counts.json", json.dumps(named).encode())
    rewrite(str(url), lambda m: replace(m, files=files))
    if change is edited_counts:
        with pytest.raises(DatasetError, match="differ"):
            verify_dataset(str(url))
    files = put_file(str(url), files, f"counts-{ALL}.npy", sink.getvalue())
    rewrite(str(url), lambda m: replace(m, files=files))
    with pytest.raises(DatasetError, match=message):
        verify_dataset(str(url))


def test_another_runs_folder(dataset, make_run, image_pool: Path) -> None:  # type: ignore[no-untyped-def]
    _, url = dataset
    other = make_run(image_pool, task_rows=77)
    with pytest.raises(DatasetError, match="another run's folder"):
        verify_dataset(str(url), other.folder)
