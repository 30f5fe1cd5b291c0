"""`clipcurate recount`: what Redis lost is found and mended, what is frozen is only judged."""

import json
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
import redis

from clipcurate.cli.local import LocalStack, StackOptions, local_stack
from clipcurate.cli.options import run_request
from clipcurate.cli.submission import Submission, prepare
from clipcurate.datasets import snapshot
from clipcurate.datasets.emission import EmissionRequest
from clipcurate.datasets.run_record import PREFIX, FrozenRun
from clipcurate.datasets.verify import verify_dataset
from clipcurate.hashing import hash_bytes
from clipcurate.metadata import ALL
from clipcurate.pools import Columns
from clipcurate.rpc.clients import CounterClient, LedgerClient
from clipcurate.rpc.v1 import ledger_pb2 as pb
from tests.conftest import CommandLine
from tests.pools import ENTRIES, make_pool, write_metadata

ROWS = 500


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> Submission:
    folder = tmp_path_factory.mktemp("recount")
    make_pool(folder / "pool", ROWS)
    metadata = str(write_metadata(folder / "metadata.json"))
    request = run_request(
        [str(folder / "pool")], Columns(), [metadata], False, str(folder / "out"), task_rows=50
    )
    return prepare(request, [EmissionRequest("balanced", t=20.0)])


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    options = StackOptions(tmp_path_factory.mktemp("stack") / "state", workers=1)
    with local_stack(options) as stack:
        yield stack


def process(stack: LocalStack, name: str) -> Popen[bytes]:
    child = next(child for child in stack.supervisor.children if child.name == name)
    assert child.process is not None
    return child.process


def redis_of(stack: LocalStack) -> Any:
    counter = next(child for child in stack.supervisor.children if child.name == "counter")
    return redis.Redis.from_url(counter.environment["CLIPCURATE_COUNTER_REDIS_URL"])


def wait_until_counted(ledger: LedgerClient, run_id: str) -> None:
    for run in ledger.watch_run(run_id, 0.1):
        if run.stages and run.stages[0].done == run.stages[0].total:
            return


def test_what_redis_lost_is_found_mended_and_frozen_as_it_should_be(
    stack: LocalStack, wanted: Submission, command_line: CommandLine
) -> None:
    recount = ["recount", wanted.run_id[:12], "--server", stack.counter]
    process(stack, "sampler").send_signal(signal.SIGSTOP)
    with LedgerClient(stack.counter) as ledger, CounterClient(stack.counter) as counter:
        ledger.create_run(wanted.run_id, wanted.spec, wanted.emissions)
        wait_until_counted(ledger, wanted.run_id)
        exact = counter.get_counts(wanted.run_id).counts[ALL]
        same = command_line(*recount)
        assert (same.returncode, "no difference" in same.stderr) == (0, True), same.stderr
        with redis_of(stack) as client:
            (key,) = client.scan_iter("*counts:all:0")
            client.setrange(key, 8 * 7 + 7, b"\0")  # the last byte of the count of "cat"
        found = command_line(*recount, "--json")
        assert found.returncode == 1, found.stderr
        value = json.loads(found.stdout)
        assert (value["run"], value["frozen"]) == (wanted.run_id, False)
        (language,) = value["languages"]
        assert language["different"] == 1
        assert language["recounted_sum"] == int(exact.sum())
        (entry,) = language["largest"]
        count = int(exact[7]) >> 8 << 8
        assert entry == {"id": 7, "entry": "cat", "count": count, "recounted": int(exact[7])}
        shown = command_line(*recount)
        assert (shown.returncode, "'cat'" in shown.stdout) == (1, True)
        repaired = command_line(*recount, "--repair")
        assert repaired.returncode == 0, repaired.stderr
        live = counter.get_counts(wanted.run_id)
        assert live.consistent
        assert live.counts[ALL].tolist() == exact.tolist()
        assert command_line(*recount).returncode == 0
        process(stack, "sampler").send_signal(signal.SIGCONT)
        *_, run = ledger.watch_run(wanted.run_id, 0.1)
    assert run.state == pb.RUN_STATE_DONE, run.problems
    assert not verify_dataset(run.emissions[0].plan.dataset_url).provenance["recounted"]


def test_a_frozen_snapshot_is_judged_by_name_and_by_folder_and_never_repaired(
    stack: LocalStack, wanted: Submission, command_line: CommandLine, tmp_path: Path
) -> None:
    with LedgerClient(stack.counter) as ledger:
        ledger.create_run(wanted.run_id, wanted.spec, wanted.emissions)
        assert list(ledger.watch_run(wanted.run_id, 0.1))[-1].state == pb.RUN_STATE_DONE
    by_name = command_line("recount", wanted.run_id, "--server", stack.counter, "--json")
    by_folder = command_line("recount", wanted.spec.output_url, "--json")
    assert by_name.returncode == by_folder.returncode == 0, by_name.stderr + by_folder.stderr
    assert by_name.stdout == by_folder.stdout
    assert json.loads(by_folder.stdout)["frozen"]
    copy = forged(Path(wanted.spec.output_url), tmp_path / "copy")
    done = command_line("recount", copy, "--repair")
    assert done.returncode == 1
    assert repr(ENTRIES[1]) in done.stdout
    assert "restore the files" in " ".join(done.stderr.split())


def forged(output: Path, copy: Path) -> Path:
    """Copy a run with one count changed, and all hashes made to fit."""
    shutil.copytree(output, copy, ignore=shutil.ignore_patterns("datasets", "scores"))
    frozen = FrozenRun.open(str(copy))
    counts = {name: array.copy() for name, array in frozen.counts().items()}
    counts[ALL][1] += 1
    content = snapshot.to_bytes(counts)
    path = Path(frozen.folder.removeprefix("file://"))
    (path / frozen.record.counts.name).write_bytes(content)
    stored = replace(frozen.record.counts, size=len(content), hash=hash_bytes(content))
    (record,) = path.glob(f"{PREFIX}-*.json")
    record.write_bytes(replace(frozen.record, counts=stored).to_bytes())
    return copy


def test_an_unknown_run_and_an_unfinished_folder(
    stack: LocalStack, command_line: CommandLine, tmp_path: Path
) -> None:
    unknown = command_line("recount", "beef", "--server", stack.counter)
    assert (unknown.returncode, "'beef' is unknown" in unknown.stderr) == (1, True)
    empty = command_line("recount", tmp_path)
    assert (empty.returncode, "no frozen run here" in empty.stderr) == (1, True)
