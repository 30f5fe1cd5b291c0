"""Images whose texts lie in several rows: against a dictionary, any cut, and workers killed."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash

from clipcurate.cli.local import LocalStack
from clipcurate.cli.submission import Submission
from clipcurate.datasets.manifest import Manifest
from clipcurate.datasets.request import EmissionRequest
from clipcurate.rpc.v1 import ledger_pb2 as pb
from tests.conftest import CommandLine
from tests.disturbed_runs import disturbed_run, kill_9, submission, undisturbed
from tests.pools import ENTRIES, matched_entries, write_metadata

MASK = (1 << 64) - 1
Row = dict[str, Any]


def mix(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK
    return x ^ (x >> 31)


def hashed(pair: tuple[str, str], *values: int) -> int:
    """Return the bits of a pair's coin (seed, round, epoch) or of its draw (and 1)."""
    uid = xxhash.xxh3_128_hexdigest(pair[0].encode() + b"\0" + pair[1].encode())
    key = xxhash.xxh3_128_intdigest(uid.encode() + b"\0" + pair[1].encode())
    state = 0
    for value in values:
        state = mix(state ^ (value + 0x9E3779B97F4A7C15 & MASK))
    return mix(mix(state ^ (key >> 64)) ^ (key & MASK))


def found(text: str) -> list[str]:
    return [ENTRIES[number] for number in matched_entries(text)]


def succeeds(row: Row, counts: Counter[str], t: float) -> bool:
    miss = 1.0
    for entry in row["hits"]:
        miss *= 1.0 - min(1.0, t / counts[entry])
    return miss < 1.0 - (hashed((row["url"], row["text"]), 0, 0, 0) >> 11) * 2.0**-53


def literal(rows: list[Row], semantics: str, t: float) -> list[tuple[str, str]]:
    """Return what is kept of rows with a url, in order; each has shard, row, url and text."""
    matched = [row | {"hits": hits} for row in rows if (hits := found(row["text"]))]
    counts = Counter(entry for row in matched for entry in row["hits"])
    images = defaultdict(list)
    for row in matched:
        draw = hashed((row["url"], row["text"]), 0, 0, 0, 1)
        row["draw"] = mix(mix(mix(draw ^ row["shard"]) ^ row["row"]) ^ 0)
        images[row["url"]].append(row)
    kept = []
    for texts in images.values():
        chosen = min(texts, key=lambda row: row["draw"])
        eligible = [chosen] if semantics == "metaclip2" else texts
        kept += eligible if any(succeeds(row, counts, t) for row in eligible) else []
    return [(r["url"], r["text"]) for r in sorted(kept, key=lambda r: (r["shard"], r["row"]))]


SEMANTICS = ["metaclip2", "record"]


@pytest.mark.parametrize("semantics", SEMANTICS)
def test_coco_against_a_dictionary(
    shared_data: Path, tmp_path: Path, command_line: CommandLine, semantics: str
) -> None:
    pool = shared_data / "pools" / "coco_val2017.parquet"
    table = pq.read_table(pool, columns=["url", "text"]).to_pylist()
    rows = [row | {"shard": 0, "row": number} for number, row in enumerate(table)]
    write_metadata(tmp_path / "metadata.json")
    arguments = ["run", "--pool", pool, "--metadata", tmp_path / "metadata.json"]
    arguments += ["--output", tmp_path / "out", "--t", 50, "--semantics", semantics]
    done = command_line(*arguments, "--group", "url", "--task-rows", 3000)
    assert done.returncode == 0, done.stderr
    dataset = done.stdout.strip()
    kept = duckdb.sql(f"SELECT url, text FROM '{dataset}/pairs-*.parquet'").fetchall()
    assert kept == literal(rows, semantics, 50.0)
    assert command_line("verify", dataset, "--run", tmp_path / "out").returncode == 0
    planned = command_line(
        *("plan", tmp_path / "out", "--t", 50, "--semantics", semantics, "--group", "url"),
        "--json",
    )
    assert planned.returncode == 0, planned.stderr
    assert f'"size": {len(kept)},' in planned.stdout


TEXTS = ["a photo of a cat", "a dog", "red house", "cat", "IMG_1.JPG", "a cat, a dog"]
SHARDS, ROWS = 4, 600


def rows_of_pool() -> Iterator[Row]:
    """Yield rows whose urls and texts recur within shards and across them."""
    for shard in range(SHARDS):
        for row in range(ROWS):
            number = 7 * row + shard * row // 3
            url = f"http://127.0.0.1/{number % 251 % 90}.jpg"
            yield {"shard": shard, "row": row, "url": url, "text": TEXTS[number % 17 % len(TEXTS)]}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "pool").mkdir()
    rows = list(rows_of_pool())
    for shard in range(SHARDS):
        mine = [{"url": r["url"], "text": r["text"]} for r in rows if r["shard"] == shard]
        path = folder / "pool" / f"{shard}.parquet"
        pq.write_table(pa.Table.from_pylist(mine), path, row_group_size=50)
    write_metadata(folder / "metadata.json")
    return folder


def wanted_of(inputs: Path, output: Path, semantics: str, task_rows: int) -> Submission:
    grouped = EmissionRequest("balanced", t=40.0, semantics=semantics, group="url", part_bytes=4000)
    return submission(inputs, output, grouped, task_rows=task_rows)


@pytest.fixture(scope="module", params=SEMANTICS)
def reference(
    request: pytest.FixtureRequest, inputs: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Manifest]:
    """What one worker with one task makes of the pool."""
    output = tmp_path_factory.mktemp("reference")
    wanted = wanted_of(inputs, output, request.param, 100_000)
    manifest = disturbed_run(output, wanted, 1, undisturbed)
    parts = f"{output}/datasets/*/pairs-*.parquet"
    kept = duckdb.sql(f"SELECT url, text FROM '{parts}'").fetchall()
    assert kept == literal(list(rows_of_pool()), request.param, 40.0)
    return request.param, manifest


def test_kill_9_while_images_are_settled_changes_no_byte(
    inputs: Path, reference: tuple[str, Manifest], tmp_path: Path
) -> None:
    semantics, expected = reference
    killed: Counter[int] = Counter()

    def kill(stack: LocalStack, run: pb.Run) -> None:
        stages = (pb.STAGE_GATHER, pb.STAGE_SETTLE)
        for stage in (s for s in run.stages if s.stage in stages and s.leased):
            if stage.done < killed[stage.stage] * 2 or killed[stage.stage] == 2:
                continue
            kill_9(stack, "sampler")
            killed[stage.stage] += 1

    disturbed = disturbed_run(tmp_path, wanted_of(inputs, tmp_path, semantics, 50), 3, kill)
    assert set(killed) == {pb.STAGE_GATHER, pb.STAGE_SETTLE}, killed
    assert disturbed.totals == expected.totals
    assert disturbed.dataset_hash == expected.dataset_hash
    assert disturbed.expected_size == expected.expected_size
    assert disturbed.size_deviation == expected.size_deviation
