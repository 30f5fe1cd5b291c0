"""`clipcurate archive`: a run leaves Redis when storage has all of it, and can start anew."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from google.protobuf import json_format

from clipcurate.cli.local import LocalStack, StackOptions, local_stack
from clipcurate.cli.options import run_request
from clipcurate.cli.submission import Submission, prepare
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.run_record import FrozenRun
from clipcurate.datasets.verify import verify_dataset
from clipcurate.errors import ConflictError
from clipcurate.pools import Columns
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.run_archive import load_run
from clipcurate.rpc.v1 import ledger_pb2 as pb
from tests.conftest import CommandLine
from tests.pools import make_pool, write_metadata

ROWS = 500


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    make_pool(folder / "pool", ROWS)
    (folder / "pool" / "f.parquet").write_bytes(b"no parquet")
    write_metadata(folder / "metadata.json")
    return folder


@pytest.fixture(scope="module")
def wanted(folder: Path) -> Submission:
    pool, metadata = str(folder / "pool"), str(folder / "metadata.json")
    output = str(folder / "out")
    request = run_request([pool], Columns(), [metadata], False, output, task_rows=50)
    return prepare(request, [EmissionRequest("balanced", t=20.0)])


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    options = StackOptions(tmp_path_factory.mktemp("stack") / "state", workers=2)
    with local_stack(options) as stack:
        yield stack


def keys_of(stack: LocalStack, run_id: str) -> list[bytes]:
    counter = next(child for child in stack.supervisor.children if child.name == "counter")
    client: Any = redis.Redis.from_url(counter.environment["CLIPCURATE_COUNTER_REDIS_URL"])
    with client:
        return [key for key in client.scan_iter() if run_id.encode() in key]


def finished(ledger: LedgerClient, wanted: Submission, *, anew: bool = False) -> pb.Run:
    ledger.create_run(wanted.run_id, wanted.spec, wanted.emissions, anew=anew)
    *_, run = ledger.watch_run(wanted.run_id, 0.1)
    assert run.state == pb.RUN_STATE_DONE, run.problems
    return run


def test_a_run_leaves_redis_and_starts_anew_with_the_same_bytes(
    stack: LocalStack, wanted: Submission, folder: Path, command_line: CommandLine
) -> None:
    with LedgerClient(stack.counter) as ledger:
        done = finished(ledger, wanted)
        tasks = [
            task
            for stage in done.stages
            for task in ledger.list_tasks(done.run_id, stage.stage, stage.emission_key)
        ]
        ref = archived(stack, ledger, done, command_line)
        assert load_run(ref) == done
        assert archived_tasks(ref) == tasks
        assert [task.error for task in tasks if task.state == pb.TASK_STATE_QUARANTINED]
        dataset = done.emissions[0].plan.dataset_url
        before = verify_dataset(dataset).dataset_hash
        readable(wanted, dataset, stack.counter, command_line)
        seen_as_archived(stack, done, ref, command_line)
        submit = ["submit", "--pool", folder / "pool", "--metadata", folder / "metadata.json"]
        submit += ["--output", folder / "out", "--t", "20", "--task-rows", "50"]
        submit += ["--server", stack.counter]
        refused = command_line(*submit)
        assert refused.returncode == 1
        assert "--anew does all of it again" in " ".join(refused.stderr.split())
        again = command_line(*submit, "--anew")
        assert (again.returncode, again.stdout.strip()) == (0, wanted.run_id), again.stderr
        *_, run = ledger.watch_run(wanted.run_id, 0.1)
    assert run.state == pb.RUN_STATE_DONE, run.problems
    assert run.emissions[0].plan.dataset_url == dataset
    assert verify_dataset(dataset).dataset_hash == before
    assert (run.pairs, run.hits) == (done.pairs, done.hits)


def archived_tasks(ref: pb.ObjectRef) -> list[pb.TaskRecord]:
    """The tasks of an archive: a line of JSON each, after that of the run."""
    lines = gzip.decompress(Path(ref.url.removeprefix("file://")).read_bytes()).splitlines()
    return [json_format.Parse(line, pb.TaskRecord()) for line in lines[1:]]


def archived(
    stack: LocalStack, ledger: LedgerClient, done: pb.Run, command_line: CommandLine
) -> pb.ObjectRef:
    """Archive a run, but only after a damaged file of it was restored."""
    archive = ["archive", done.run_id[:12], "--server", stack.counter]
    frozen = FrozenRun.open(done.spec.output_url)
    stored = next(index for index in frozen.record.indexes if index)
    index = Path(frozen.folder.removeprefix("file://")) / stored.name
    content, before = index.read_bytes(), len(keys_of(stack, done.run_id))
    index.write_bytes(content[:-1])
    refused = command_line(*archive)
    assert (refused.returncode, stored.name in refused.stderr) == (1, True), refused.stderr
    index.unlink()
    assert command_line(*archive).returncode == 1
    assert ledger.get_run(done.run_id) == done
    assert len(keys_of(stack, done.run_id)) == before > 20
    index.write_bytes(content)
    made = [command_line(*archive) for _ in range(2)]
    assert [one.returncode for one in made] == [0, 0], made
    ref = ledger.get_run(done.run_id).archive
    assert {one.stdout.strip() for one in made} == {ref.url}
    assert len(keys_of(stack, done.run_id)) == 1
    return ref


def readable(wanted: Submission, dataset: str, server: str, command_line: CommandLine) -> None:
    for command in (
        ["plan", wanted.spec.output_url, "--t", "10"],
        ["recount", wanted.spec.output_url],
        ["recount", wanted.run_id, "--server", server],
        ["verify", dataset, "--run", wanted.spec.output_url],
    ):
        found = command_line(*command)
        assert found.returncode == 0, found.stderr


def seen_as_archived(
    stack: LocalStack, done: pb.Run, ref: pb.ObjectRef, command_line: CommandLine
) -> None:
    listed = command_line("runs", "--server", stack.counter).stdout
    rows = [line.split() for line in listed.splitlines()]
    row = next(row for row in rows if row[:2] == [done.run_id, "archived"])
    counted = f"{done.spec.num_tasks - 1}/{done.spec.num_tasks}"
    columns = ["archived", counted, "frozen,", "complete"]
    assert row[1:] == [*columns, f"{done.pairs:,}", f"{done.hits:,}", "1/1"]
    assert f"{done.run_id} is archived in {ref.url}" in listed
    watched = command_line("watch", done.run_id[:12], "--server", stack.counter)
    assert watched.returncode == 0, watched.stderr
    assert f"{done.pairs:,} pairs, {done.hits:,} hits counted" in watched.stderr
    assert "quarantined" in watched.stderr
    as_json = command_line("watch", done.run_id, "--json", "--server", stack.counter)
    assert json.loads(as_json.stdout)["archive"]["url"] == ref.url


def test_a_cancelled_run_is_archived_as_far_as_it_came(
    stack: LocalStack, folder: Path, command_line: CommandLine
) -> None:
    pool, metadata = str(folder / "pool" / "a.parquet"), str(folder / "metadata.json")
    request = run_request([pool], Columns(), [metadata], False, str(folder / "cancelled"))
    wanted = prepare(request, [EmissionRequest("raw")])
    with LedgerClient(stack.counter) as ledger:
        ledger.create_run(wanted.run_id, wanted.spec, wanted.emissions)
        ledger.cancel_run(wanted.run_id)
        made = command_line("archive", wanted.run_id, "--server", stack.counter)
        assert made.returncode == 0, made.stderr
        ref = ledger.get_run(wanted.run_id).archive
        assert load_run(ref).state == pb.RUN_STATE_CANCELLED
        watched = command_line("watch", wanted.run_id, "--server", stack.counter)
        assert watched.returncode == 1
        with pytest.raises(ConflictError, match="is archived"):
            ledger.retry_run(wanted.run_id)
        assert finished(ledger, wanted, anew=True).pairs == ROWS // 5


def test_a_local_run_that_was_archived_goes_on_only_when_told(
    folder: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    output = tmp_path / "out"
    run = ["run", "--output", output, "--workers", "1"]
    wanted = ["--pool", folder / "pool" / "a.parquet", "--metadata", folder / "metadata.json"]
    first = command_line(*run, *wanted, "--emit", "matched")
    assert first.returncode == 0, first.stderr
    before = verify_dataset(first.stdout.strip()).dataset_hash
    with local_stack(StackOptions(output / ".clipcurate", workers=0)) as stack:
        with LedgerClient(stack.counter) as ledger:
            (found,) = ledger.list_runs().runs
        made = command_line("archive", found.run_id, "--server", stack.counter)
        assert made.returncode == 0, made.stderr
    refused = command_line(*run, *wanted, "--emit", "matched")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"is archived in {made.stdout.strip()}" in " ".join(refused.stderr.split())
    again = command_line(*run, "--resume", "--anew")
    assert (again.returncode, again.stdout) == (0, first.stdout), again.stderr
    assert verify_dataset(again.stdout.strip()).dataset_hash == before
