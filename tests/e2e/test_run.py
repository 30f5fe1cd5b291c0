"""`clipcurate run` as a user runs it: a mixed pool in, proven datasets out, whatever happens."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
import redis
import webdataset

from clipcurate.cli.local import LocalStack
from clipcurate.cli.submission import Submission
from clipcurate.datasets import manifest as manifests
from clipcurate.datasets.manifest import Manifest
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.verify import verify_dataset
from clipcurate.rpc.v1 import ledger_pb2 as pb
from tests.conftest import CommandLine
from tests.disturbed_runs import disturbed_run, kill_9, submission, undisturbed
from tests.pools import ENTRIES, make_pool, matched_entries, write_metadata
from tests.waiting import wait_until

T = 40.0
ROWS = 3000


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    make_pool(folder / "pool", ROWS)
    write_metadata(folder / "metadata.json")
    return folder


def arguments(inputs: Path, output: Path, *more: object) -> list[object]:
    base = ["run", "--pool", inputs / "pool", "--metadata", inputs / "metadata.json"]
    return [*base, "--output", output, *more]


def datasets(output: Path) -> dict[str, Path]:
    return {path.name.partition("-")[0]: path for path in (output / "datasets").iterdir()}


@pytest.fixture(scope="module")
def finished(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run with all kinds of emission: 2 workers."""
    output = tmp_path_factory.mktemp("finished")
    kinds = ["--emit", "raw", "--emit", "matched", "--emit", "balanced", "--t", T]
    command = [sys.executable, "-m", "clipcurate.cli.app"]
    command += map(str, arguments(inputs, output, *kinds, "--task-rows", 200, "--workers", 2))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted(str(p) for p in datasets(output).values())
    return output


def test_every_pair_of_every_kind_is_proven(finished: Path, command_line: CommandLine) -> None:
    for kind, path in datasets(finished).items():
        done = command_line("verify", path, "--run", finished)
        assert done.returncode == 0, done.stderr
        totals = manifests.load(str(path)).totals
        assert totals.pairs == ROWS
        if kind != "balanced":
            assert totals.dropped == 0


def test_counts_and_hits_equal_brute_force(finished: Path) -> None:
    raw = datasets(finished)["raw"]
    rows = duckdb.sql(f"SELECT text, entry_ids FROM '{raw}/pairs-*.parquet'").fetchall()
    counts: Counter[int] = Counter()
    for text, entry_ids in rows:
        hits = matched_entries(text)
        assert sorted(entry_ids) == entry_ids == hits
        counts.update(hits)
    published = json.loads((raw / "entry_counts.json").read_text())
    assert list(published) == ENTRIES
    assert list(published.values()) == [counts[number] for number in range(len(ENTRIES))]
    assert np.load(raw / "counts-all.npy").tolist() == list(published.values())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset's
def test_tools_read_the_files(finished: Path) -> None:
    balanced = datasets(finished)["balanced"]
    manifest = manifests.load(str(balanced))
    uids = np.load(balanced / "uids.npy")
    assert uids.dtype == np.dtype("u8,u8")
    assert uids.tolist() == sorted(uids.tolist())
    query = f"SELECT uid, critical_t, site FROM '{balanced}/pairs-*.parquet'"
    rows = duckdb.sql(query).fetchall()
    assert sorted((int(u[:16], 16), int(u[16:], 16)) for u, _, _ in rows) == uids.tolist()
    assert all(0 < critical <= T for _, critical, _ in rows)
    samples = list(_samples(balanced))
    assert len(samples) == sum(file.rows for file in manifest.of_role("images"))
    assert all(s["png"].startswith(b"\x89PNG") and s["txt"].decode() for s in samples)
    assert all(json.loads(s["json"])["texts"][0]["text"] == s["txt"].decode() for s in samples)


def _samples(dataset: Path) -> Iterator[dict[str, Any]]:
    tars = sorted(str(path) for path in dataset.glob("images-*.tar"))
    yield from webdataset.WebDataset(tars, shardshuffle=False)


def test_hugging_face_datasets_reads_the_folder(finished: Path, tmp_path: Path) -> None:
    balanced = datasets(finished)["balanced"]
    script = (
        "import datasets, sys; d = datasets.load_dataset(sys.argv[1], cache_dir=sys.argv[2]);"
        "print(d['train'].num_rows)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = [sys.executable, "-W", "ignore", "-c", script, str(balanced), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == manifests.load(str(balanced)).totals.kept


def test_a_threshold_later_adds_a_nested_dataset_from_the_same_counts(
    finished: Path, inputs: Path, command_line: CommandLine
) -> None:
    done = command_line(*arguments(inputs, finished, "--t", T / 4, "--task-rows", 200))
    assert done.returncode == 0, done.stderr
    small = Path(done.stdout.strip())
    big = datasets(finished)["matched"]
    query = "SELECT uid FROM '{}/pairs-*.parquet' WHERE critical_t <= {}"
    kept = duckdb.sql(query.format(small, T)).fetchall()
    assert kept == duckdb.sql(query.format(big, T / 4)).fetchall()


def test_a_dataset_gives_every_smaller_one_without_the_pool(
    finished: Path, command_line: CommandLine, tmp_path: Path
) -> None:
    balanced = datasets(finished)["balanced"]
    done = command_line("rethreshold", balanced, "--t", T / 2, "--output", tmp_path / "small")
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "small")), done.stderr
    query = "SELECT uid, text FROM '{}/pairs-*.parquet' WHERE critical_t <= {}"
    wanted = duckdb.sql(query.format(datasets(finished)["matched"], T / 2)).fetchall()
    assert duckdb.sql(query.format(tmp_path / "small", T)).fetchall() == wanted
    checked = command_line("verify", tmp_path / "small", "--run", finished)
    assert checked.returncode == 0, checked.stderr
    larger = command_line("rethreshold", balanced, "--t", 2 * T)
    assert (larger.returncode, "its own is 40" in larger.stderr) == (1, True)


def test_an_exact_size_is_exact_and_planned_before(
    finished: Path, inputs: Path, command_line: CommandLine
) -> None:
    planned = command_line("plan", finished, "--size", 777, "--json")
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["size"] == 777
    done = command_line(*arguments(inputs, finished, "--size", 777, "--task-rows", 200))
    assert done.returncode == 0, done.stderr
    manifest = verify_dataset(done.stdout.strip(), str(finished))
    assert manifest.totals.kept == 777
    assert manifest.cuts["all"]["t"] == json.loads(planned.stdout)["t"]


# What follows drives the system through its clients, to disturb it on the way.


def wanted_of(inputs: Path, output: Path, task_rows: int = 100, order_seed: int = 0) -> Submission:
    balanced = EmissionRequest("balanced", t=T, part_bytes=20_000)
    return submission(inputs, output, balanced, task_rows=task_rows, order_seed=order_seed)


@pytest.fixture(scope="module")
def reference(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """What one worker makes of the pool when nothing happens."""
    output = tmp_path_factory.mktemp("reference")
    return disturbed_run(output, wanted_of(inputs, output), 1, undisturbed)


def test_workers_tasks_and_order_change_no_byte(
    inputs: Path, reference: Manifest, tmp_path: Path
) -> None:
    wanted = wanted_of(inputs, tmp_path, task_rows=333, order_seed=5)
    other = disturbed_run(tmp_path, wanted, 4, undisturbed)
    assert len(other.of_role("pairs")) > 2
    assert other.dataset_hash == reference.dataset_hash


@pytest.mark.parametrize("victim", ["matcher-0", "counter", "redis", "sampler"])
def test_kill_9_changes_no_byte(
    inputs: Path, reference: Manifest, tmp_path: Path, victim: str
) -> None:
    killed: list[int] = []

    def kill(stack: LocalStack, run: pb.Run) -> None:
        counted = run.stages[0].done
        if counted >= 2 + 5 * len(killed) and len(killed) < 3 and kill_9(stack, victim):
            killed.append(counted)

    disturbed = disturbed_run(tmp_path, wanted_of(inputs, tmp_path), 2, kill)
    assert killed, "nothing was killed: the run was over too soon"
    assert disturbed.dataset_hash == reference.dataset_hash


def test_counts_that_redis_lost_are_rebuilt_from_the_indexes(
    inputs: Path, reference: Manifest, tmp_path: Path
) -> None:
    lost: list[int] = []

    def lose(stack: LocalStack, run: pb.Run) -> None:
        children = {child.name: child for child in stack.supervisor.children}
        sampler = children["sampler"].process
        assert sampler is not None
        if run.stages[0].done < 5:
            sampler.send_signal(signal.SIGSTOP)  # so that nothing is frozen before the loss
        elif not lost:
            url = children["counter"].environment["CLIPCURATE_COUNTER_REDIS_URL"]
            with redis.Redis.from_url(url) as client:
                lost.append(client.delete(*client.scan_iter("*counts:all:*")))
            sampler.send_signal(signal.SIGCONT)

    disturbed = disturbed_run(tmp_path, wanted_of(inputs, tmp_path), 2, lose)
    assert lost == [1]
    assert disturbed.provenance["recounted"]
    assert disturbed.dataset_hash == reference.dataset_hash


def start(arguments_: list[object]) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "clipcurate.cli.app", *map(str, arguments_)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_index(output: Path, process: subprocess.Popen[str]) -> None:
    def indexed() -> bool:
        assert process.poll() is None, process.communicate()
        return any(output.glob("runs/*/index/*.arrow"))

    wait_until(indexed, 300, "a task is matched")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_command_goes_on_with_resume(
    inputs: Path, reference: Manifest, tmp_path: Path, command_line: CommandLine, number: int
) -> None:
    options = ["--t", T, "--task-rows", 100, "--part-bytes", 20_000]
    process = start(arguments(inputs, tmp_path, *options))
    wait_for_index(tmp_path, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert "--resume" in errors
    again = command_line(*arguments(inputs, tmp_path, *options))
    assert again.returncode == 1
    assert "--resume" in again.stderr
    resumed = command_line("run", "--output", tmp_path, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert verify_dataset(resumed.stdout.strip()).dataset_hash == reference.dataset_hash
