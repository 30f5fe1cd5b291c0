"""Runs that drop duplicates: against a dictionary, on real repeats, and with workers killed."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipcurate.cli.local import LocalStack
from clipcurate.cli.submission import Submission
from clipcurate.datasets import manifest as manifests
from clipcurate.datasets.manifest import Manifest
from clipcurate.datasets.outcomes import Totals
from clipcurate.datasets.request import EmissionRequest
from clipcurate.rpc.v1 import ledger_pb2 as pb
from tests.conftest import CommandLine
from tests.disturbed_runs import disturbed_run, kill_9, submission, undisturbed
from tests.pools import make_pool, write_metadata


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pool whose shards repeat each other: every row occurs twice or three times."""
    folder = tmp_path_factory.mktemp("inputs")
    make_pool(folder / "pool", 2000)
    for name in ("a", "b"):
        table = pq.read_table(folder / "pool" / f"{name}.parquet")
        pq.write_table(table.slice(100), folder / "pool" / f"z-{name}.parquet", row_group_size=50)
        pq.write_table(table, folder / "pool" / f"zz-{name}.parquet", row_group_size=50)
    write_metadata(folder / "metadata.json")
    return folder


def wanted_of(inputs: Path, output: Path, dedup: str, task_rows: int = 50) -> Submission:
    raw = EmissionRequest("raw", part_bytes=20_000)
    return submission(inputs, output, raw, task_rows=task_rows, dedup=dedup)


@pytest.fixture(scope="module", params=["uid", "url"])
def reference(
    request: pytest.FixtureRequest, inputs: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Manifest]:
    """What one worker with one partition makes of the pool."""
    output = tmp_path_factory.mktemp("reference")
    wanted = wanted_of(inputs, output, request.param, task_rows=100_000)
    assert wanted.spec.dedup_partitions == 1
    return request.param, disturbed_run(output, wanted, 1, undisturbed)


def test_kill_9_while_ids_are_read_and_compared_changes_no_byte(
    inputs: Path, reference: tuple[str, Manifest], tmp_path: Path
) -> None:
    by, expected = reference
    wanted = wanted_of(inputs, tmp_path, by)
    assert wanted.spec.dedup_partitions > 3
    killed: Counter[int] = Counter()

    def kill(stack: LocalStack, run: pb.Run) -> None:
        busy = [s for s in run.stages if s.stage in (pb.STAGE_KEYS, pb.STAGE_DEDUP) and s.leased]
        for stage in busy:
            if stage.done < killed[stage.stage] * 2 or killed[stage.stage] == 2:
                continue
            kill_9(stack, "matcher")
            killed[stage.stage] += 1

    disturbed = disturbed_run(tmp_path, wanted, 2, kill)
    assert set(killed) == {pb.STAGE_KEYS, pb.STAGE_DEDUP}, killed
    assert disturbed.totals == expected.totals
    assert disturbed.dataset_hash == expected.dataset_hash


def test_an_unreadable_shard_stands_for_no_duplicate(inputs: Path, tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    table = pa.table({"url": ["u", "v", "u"], "text": ["a cat", "a dog", "a cat"]})
    for name in ("0", "1"):
        pq.write_table(table, pool / f"{name}.parquet")
    content = (pool / "0.parquet").read_bytes()
    (pool / "0.parquet").write_bytes(content[: len(content) // 2])
    write_metadata(tmp_path / "metadata.json")
    output = tmp_path / "out"
    found = disturbed_run(output, wanted_of(tmp_path, output, "uid"), 2, undisturbed)
    assert found.totals == Totals(duplicate=1, kept=2)
    assert [one["inputs"][0]["shard"] for one in found.unknown_rows] == ["0.parquet"]


def rows_of(pools: list[Path]) -> Iterator[tuple[str, str]]:
    for pool in pools:
        yield from duckdb.sql(f"SELECT url, text FROM '{pool}'").fetchall()


@pytest.mark.parametrize("by", ["uid", "url"])
def test_real_repeats_against_a_dictionary(
    shared_data: Path, tmp_path: Path, command_line: CommandLine, by: str
) -> None:
    pools = [shared_data / "pools" / f"{n}.parquet" for n in ("bl_book_images", "tate_titles")]
    seen: set[object] = set()
    survivors = []
    duplicates = rejected = 0
    for url, text in rows_of(pools):
        name = url if by == "url" else (url, text)
        if not text:
            rejected += 1
        elif by == "url" and not url:
            survivors.append((url, text))
        elif name in seen:
            duplicates += 1
        else:
            seen.add(name)
            survivors.append((url, text))
    write_metadata(tmp_path / "metadata.json")
    arguments = ["run", *(item for pool in pools for item in ("--pool", pool))]
    arguments += ["--metadata", tmp_path / "metadata.json", "--output", tmp_path / "out"]
    arguments += ["--emit", "raw", "--dedup", by, "--task-rows", 20_000]
    done = command_line(*arguments)
    assert done.returncode == 0, done.stderr
    dataset = done.stdout.strip()
    manifest = manifests.load(dataset)
    assert manifest.totals == Totals(duplicate=duplicates, rejected=rejected, kept=len(survivors))
    kept = duckdb.sql(f"SELECT url, text FROM '{dataset}/pairs-*.parquet'").fetchall()
    assert kept == survivors
    assert command_line("verify", dataset, "--run", tmp_path / "out").returncode == 0
