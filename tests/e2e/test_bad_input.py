"""Bad input: a clear message, the rest of the work done, nothing lost."""

import gzip
import json
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipcurate.datasets import manifest as manifests
from clipcurate.datasets.manifest import Manifest
from tests.conftest import CommandLine
from tests.pools import make_pool, write_metadata


@pytest.fixture
def metadata(tmp_path: Path) -> Path:
    return write_metadata(tmp_path / "metadata.json")


def refused(command_line: CommandLine, *args: object) -> str:
    done = command_line("run", *args)
    assert done.returncode == 1, done
    message = " ".join(done.stderr.split())
    assert "Traceback" not in message
    return message


def test_what_is_wrong_before_anything_starts(
    command_line: CommandLine, tmp_path: Path, metadata: Path
) -> None:
    make_pool(tmp_path / "pool", 50)
    pool = ["--pool", tmp_path / "pool" / "a.parquet"]
    out = ["--output", tmp_path / "out"]
    known = ["--metadata", metadata]
    missing = tmp_path / "missing.parquet"
    assert str(missing) in refused(command_line, "--pool", missing, *known, *out, "--t", 5)
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(command_line, "--pool", tmp_path / "empty", *known, *out, "--t", 5)
    wrong = refused(command_line, *pool, *known, *out, "--t", 5, "--text-column", "nope")
    assert "nope" in wrong
    assert "a.parquet" in wrong
    broken = tmp_path / "object.json"
    broken.write_text('{"cat": 1}')
    assert "list" in refused(command_line, *pool, "--metadata", broken, *out, "--t", 5)
    broken.write_text('["cat", "dog", "cat", ""]')
    message = refused(command_line, *pool, "--metadata", broken, *out, "--t", 5)
    assert "2 repeats 0 ('cat')" in message
    assert "3 is empty" in message
    assert "--dedupe" in message
    assert "exactly one of --t, --size" in refused(command_line, *pool, *known, *out)
    assert not (tmp_path / "out" / "datasets").exists()


def run(command_line: CommandLine, tmp_path: Path, *more: object) -> tuple[Manifest, str]:
    """Run over tmp_path/pool; return the raw emission's manifest and what was said."""
    args = ["--pool", tmp_path / "pool", "--metadata", tmp_path / "metadata.json"]
    done = command_line("run", *args, "--output", tmp_path / "out", "--emit", "raw", *more)
    assert done.returncode == 0, done.stderr
    dataset = done.stdout.strip()
    checked = command_line("verify", dataset, "--run", tmp_path / "out")
    assert checked.returncode == 0, checked.stderr
    return manifests.load(dataset), " ".join(done.stderr.split())


def write(path: Path, texts: list[str | None]) -> None:
    urls = [f"http://127.0.0.1/{number}" for number in range(len(texts))]
    pq.write_table(pa.table({"url": urls, "text": pa.array(texts, pa.string())}), path)


def test_broken_files_beside_good_ones(
    command_line: CommandLine, tmp_path: Path, metadata: Path
) -> None:
    pool = tmp_path / "pool"
    rows = make_pool(pool, 100)
    whole = (pool / "a.parquet").read_bytes()
    (pool / "truncated.parquet").write_bytes(whole[: len(whole) // 2])
    tar = (pool / "e.tar").read_bytes()
    (pool / "f.tar").write_bytes(tar[: len(tar) // 2])
    lines = "".join(json.dumps({"url": "u", "text": f"cat {n}"}) + "\n" for n in range(5000))
    packed = gzip.compress(lines.encode())
    (pool / "g.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    manifest, said = run(command_line, tmp_path, "--task-rows", 10)
    (unknown,) = manifest.unknown_rows
    assert unknown["inputs"][0]["shard"] == "truncated.parquet"
    assert "truncated.parquet" in said
    assert "quarantined" in said
    assert manifest.totals.rejected == 2, "one record where each stream ends"
    assert manifest.totals.pairs > rows + 2


def test_awkward_texts_are_counted_not_lost(
    command_line: CommandLine, tmp_path: Path, metadata: Path
) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    million = "cat " * 250_000
    write(pool / "a.parquet", ["a cat", None, million, "", "a cat\0", "é" * 1000])
    bad = pa.array([b"a \xff\xfe cat", b"a dog"]).cast(pa.binary()).view(pa.string())
    pq.write_table(pa.table({"url": ["x", "y"], "text": bad}), pool / "b.parquet")
    manifest, _ = run(command_line, tmp_path)
    assert manifest.totals.rejected == 2, "the null and the text that is not UTF-8"
    assert manifest.totals.kept == 6
    (dataset,) = (tmp_path / "out" / "datasets").iterdir()
    counts = json.loads((dataset / "entry_counts.json").read_text())
    assert counts["cat"] == 2
    assert counts["a dog"] == 1


def test_repeated_pairs_are_kept_and_reported(
    command_line: CommandLine, tmp_path: Path, metadata: Path
) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    rows = pa.table({"url": ["same"] * 9, "text": ["a cat"] * 9})
    pq.write_table(rows, pool / "a.parquet")
    manifest, said = run(command_line, tmp_path)
    assert manifest.totals.kept == 9
    assert manifest.repeated_uids == 8
    assert "8 kept pairs repeat" in said


def test_a_pool_where_nothing_matches(
    command_line: CommandLine, tmp_path: Path, metadata: Path
) -> None:
    pool = tmp_path / "pool"
    pool.mkdir()
    write(pool / "a.parquet", ["nothing here", "IMG_1.JPG"])
    args = ["--pool", pool, "--metadata", metadata, "--output", tmp_path / "out", "--t", 5]
    done = command_line("run", *args)
    assert done.returncode == 0, done.stderr
    manifest = manifests.load(done.stdout.strip())
    assert (manifest.totals.unmatched, manifest.totals.kept) == (2, 0)
    assert command_line("verify", done.stdout.strip(), "--run", tmp_path / "out").returncode == 0


def test_a_size_that_cannot_be_had_blocks_with_the_number_that_can(
    command_line: CommandLine, tmp_path: Path, metadata: Path
) -> None:
    (tmp_path / "pool").mkdir()
    write(tmp_path / "pool" / "a.parquet", ["a cat", "a dog", "nothing"])
    args = ["--pool", tmp_path / "pool", "--metadata", metadata, "--output", tmp_path / "out"]
    message = refused(command_line, *args, "--size", 3)
    assert "ask for 1 to 2" in message
    assert "--abandon" in refused(command_line, *args, "--size", 2)
    done = command_line("run", *args, "--size", 2, "--abandon")
    assert done.returncode == 0, done.stderr
    assert manifests.load(done.stdout.strip()).totals.kept == 2


def test_a_pool_that_changes_after_planning_is_noticed(
    command_line: CommandLine, tmp_path: Path, metadata: Path
) -> None:
    (tmp_path / "pool").mkdir()
    shard = tmp_path / "pool" / "a.parquet"
    write(shard, ["a cat"] * 10)
    args = ["--pool", tmp_path / "pool", "--metadata", metadata, "--output", tmp_path / "out"]
    assert command_line("run", *args, "--emit", "none").returncode == 0
    (record,) = (tmp_path / "out" / ".clipcurate").glob("submission.json")
    value = json.loads(record.read_text()) | {"finished": False}
    value["emissions"] = [{"kind": "EMISSION_KIND_MATCHED"}]
    record.write_text(json.dumps(value))
    write(shard, ["a dog"] * 11)
    done = command_line("run", "--output", tmp_path / "out", "--resume")
    assert done.returncode == 1
    assert "a.parquet" in done.stderr
    assert "chang" in done.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Path:
    """A file system of 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_blocks_the_run_and_resume_ends_it(
    command_line: CommandLine, tmp_path: Path, metadata: Path, small_disk: Path
) -> None:
    make_pool(tmp_path / "pool", 1000)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(1_900_000))
    output, state = small_disk / "out", tmp_path / "state"
    args = ["--pool", tmp_path / "pool", "--metadata", metadata, "--output", output]
    args += ["--state", state, "--emit", "matched"]
    message = refused(command_line, *args)
    assert "No space left" in message
    ballast.unlink()
    done = command_line("run", "--output", output, "--state", state, "--resume")
    assert done.returncode == 0, done.stderr
    assert command_line("verify", done.stdout.strip(), "--run", output).returncode == 0


def test_redis_that_is_not_there(command_line: CommandLine, tmp_path: Path, metadata: Path) -> None:
    (tmp_path / "pool").mkdir()
    write(tmp_path / "pool" / "a.parquet", ["a cat"])
    args = ["--pool", tmp_path / "pool", "--metadata", metadata, "--output", tmp_path / "out"]
    message = refused(command_line, *args, "--t", 5, "--redis", "redis://127.0.0.1:1/0")
    assert "Redis cannot be used at redis://127.0.0.1:1" in message
