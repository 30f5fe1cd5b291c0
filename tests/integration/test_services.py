"""The running services, as clients see them: ours, and one from another tool chain."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clipcurate.cli.local import LocalStack, StackOptions, local_stack, serves
from clipcurate.cli.options import run_request
from clipcurate.cli.submission import prepare
from clipcurate.datasets import manifest as manifests
from clipcurate.datasets.request import EmissionRequest
from clipcurate.errors import InvalidInputError, LeaseLostError, NotFoundError
from clipcurate.matching import Matcher
from clipcurate.pools import Columns
from clipcurate.rpc.clients import CounterClient, LedgerClient, MatcherClient, SamplerClient
from clipcurate.rpc.finished import FinishedTasks
from clipcurate.rpc.v1 import ledger_pb2 as pb
from clipcurate.rpc.v1 import ledger_pb2_grpc
from services.counter.service import LIST_BYTES, list_messages
from tests.conftest import ROOT, CommandLine
from tests.pools import ENTRIES, make_pool, write_metadata

TEXTS = ["a cat, a dog", "nothing", "猫 in new york", "", "a\tcat"]
ROWS = 500


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """The system with metadata for clients."""
    folder = tmp_path_factory.mktemp("stack")
    metadata = write_metadata(folder / "metadata.json")
    options = StackOptions(folder / "state", workers=1, metadata=(str(metadata),))
    with local_stack(options) as stack:
        assert serves(stack.addresses["matcher-0"], 60)
        assert serves(stack.addresses["sampler"], 60)
        yield stack


@pytest.fixture(scope="module")
def run(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> pb.Run:
    """A finished run in several parts."""
    folder = tmp_path_factory.mktemp("run")
    make_pool(folder / "pool", ROWS)
    metadata = str(write_metadata(folder / "metadata.json"))
    request = run_request(
        [str(folder / "pool")], Columns(), [metadata], False, str(folder / "out"), task_rows=50
    )
    wanted = prepare(request, [EmissionRequest("matched", part_bytes=10_000)])
    with LedgerClient(stack.counter) as ledger:
        ledger.create_run(wanted.run_id, wanted.spec, wanted.emissions)
        *_, last = ledger.watch_run(wanted.run_id, 0.1)
    assert last.state == pb.RUN_STATE_DONE, last.problems
    return last


@pytest.fixture
def matcher(stack: LocalStack) -> Iterator[MatcherClient]:
    with MatcherClient(stack.addresses["matcher-0"]) as client:
        yield client


def test_batches_and_streams_give_the_library_s_answer(matcher: MatcherClient) -> None:
    expected = Matcher.build(ENTRIES).match(pa.array(TEXTS))
    matches, names = matcher.match_batch(TEXTS, include_entries=True)
    assert np.array_equal(matches.row_offsets, expected.row_offsets)
    assert np.array_equal(matches.entry_ids, expected.entry_ids)
    assert names == [ENTRIES[number] for number in expected.entry_ids]
    streamed = list(matcher.match_stream([[text] for text in TEXTS]))
    assert [one.entry_ids.tolist() for one in streamed] == [row.tolist() for row in expected]


def test_metadata_is_named_by_its_fingerprint(matcher: MatcherClient) -> None:
    (info,) = matcher.list_metadata()
    assert (info.num_entries, info.rule) == (len(ENTRIES), "metaclip1")
    assert len(matcher.match_batch(TEXTS, info.fingerprint)[0]) == len(TEXTS)
    with pytest.raises(NotFoundError, match=info.fingerprint):
        matcher.match_batch(TEXTS, "0" * 32)


def test_too_many_texts_are_refused(matcher: MatcherClient) -> None:
    assert len(matcher.match_batch(["a cat"] * 8192)[0]) == 8192
    with pytest.raises(InvalidInputError, match="8,192"):
        matcher.match_batch(["a cat"] * 8193)


def test_the_command_matches_through_the_server(
    stack: LocalStack, command_line: CommandLine, tmp_path: Path
) -> None:
    lines = "a cat, a dog\nnothing\n"
    remote = command_line("match", "--server", stack.addresses["matcher-0"], stdin=lines)
    metadata = write_metadata(tmp_path / "metadata.json")
    local = command_line("match", "--metadata", metadata, stdin=lines)
    assert remote.returncode == local.returncode == 0
    assert remote.stdout == local.stdout
    first, second = map(json.loads, local.stdout.splitlines())
    assert {"id": ENTRIES.index("a cat"), "entry": "a cat"} in first["entries"]
    assert second == {"text": "nothing", "entries": []}


def test_numbers_of_another_version_are_refused_at_once(stack: LocalStack, run: pb.Run) -> None:
    """They must not wait for a sampler that would be blocked by them."""
    foreign = pb.EmissionSpec(kind=pb.EMISSION_KIND_MATCHED, semantics=77)
    with ledger_stub(stack) as ledger, pytest.raises(grpc.RpcError) as refused:
        message = pb.CreateRunRequest(run_id=run.run_id, spec=run.spec, emissions=[foreign])
        ledger.CreateRun(message)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "semantics is 77" in refused.value.details()
    with LedgerClient(stack.counter) as ledger:
        assert ledger.get_run(run.run_id).emissions == run.emissions


@contextmanager
def ledger_stub(stack: LocalStack) -> Iterator[ledger_pb2_grpc.LedgerStub]:
    with grpc.insecure_channel(stack.counter) as channel:
        yield ledger_pb2_grpc.LedgerStub(channel)


def test_pairs_stream_in_dataset_order_and_resume(stack: LocalStack, run: pb.Run) -> None:
    dataset = run.emissions[0].plan.dataset_url
    manifest = manifests.load(dataset)
    files = [Path(dataset) / file.name for file in manifest.of_role("pairs")]
    assert len(files) > 2
    whole = pa.concat_tables([pq.read_table(file) for file in files])
    with SamplerClient(stack.addresses["sampler"]) as client:
        batches = list(client.stream_pairs(run.run_id, batch_pairs=7, columns=["uid", "text"]))
        assert max(table.num_rows for table, _ in batches) == 7
        streamed = pa.concat_tables([table for table, _ in batches])
        assert streamed.to_pydict() == whole.select(["uid", "text"]).to_pydict()
        cursor = batches[5][1]
        again = pa.concat_tables([t for t, _ in client.stream_pairs(run.run_id, cursor=cursor)])
        assert again["uid"].to_pylist() == whole["uid"].to_pylist()[cursor:]
        with pytest.raises(InvalidInputError, match="no column 'nope'"):
            list(client.stream_pairs(run.run_id, columns=["nope"]))
        with pytest.raises(NotFoundError):
            list(client.stream_pairs("nope"))


def test_live_counts_pass_their_check(stack: LocalStack, run: pb.Run) -> None:
    with CounterClient(stack.counter) as counter:
        live = counter.get_counts(run.run_id)
    assert live.consistent
    assert live.counts["all"].sum() == run.hits > 0


def test_a_void_lease_changes_no_count(stack: LocalStack, run: pb.Run) -> None:
    task = pb.Task(run_id=run.run_id, stage=pb.STAGE_MATCH, index=0)
    lease = pb.Lease(task=task, token="made up")
    adds = {"all": (np.array([1], np.uint32), np.array([5], np.uint32))}
    with CounterClient(stack.counter) as counter:
        before = counter.get_counts(run.run_id)
        with pytest.raises(LeaseLostError):
            counter.count_task(lease, pb.MatchResult(hits={"all": 5}), adds)
        with pytest.raises(InvalidInputError, match="announces"):
            counter.count_task(lease, pb.MatchResult(hits={"all": 6}), adds)
        assert np.array_equal(counter.get_counts(run.run_id).counts["all"], before.counts["all"])


def test_runs_watch_cancel_and_retry(
    stack: LocalStack, run: pb.Run, command_line: CommandLine
) -> None:
    server = ["--server", stack.counter]
    listed = command_line("runs", *server)
    assert run.run_id in listed.stdout
    assert command_line("watch", run.run_id[:6], *server).returncode == 0
    watched = command_line("watch", run.run_id[:6], "--json", *server)
    last = json.loads(watched.stdout.splitlines()[-1])
    assert (last["state"], last["stability"]) == ("RUN_STATE_DONE", "STABILITY_COMPLETE")
    seen = last["stability_progress"]
    assert seen["pairs_seen"] == seen["pairs_announced"] == str(run.pairs)
    assert "cancelled" in command_line("cancel", run.run_id[:6], *server).stderr
    assert command_line("watch", run.run_id, *server).returncode == 1
    assert "done" in command_line("retry", run.run_id, *server).stderr
    unknown = command_line("watch", "nope", *server)
    assert unknown.returncode == 1
    assert "clipcurate runs" in unknown.stderr


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Node client with its two public packages installed."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    folder = tmp_path_factory.mktemp("node")
    shutil.copytree(Path(__file__).parent / "node_client", folder, dirs_exist_ok=True)
    command = ["npm", "install", "--no-audit", "--no-fund", "--silent", "--no-package-lock"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"npm cannot install the client's packages: {done.stderr.strip()[:300]}")
    return folder


def test_a_client_in_javascript_needs_only_the_proto_files(
    stack: LocalStack, run: pb.Run, node_modules: Path
) -> None:
    addresses = [stack.addresses["matcher-0"], stack.counter]
    command = ["node", str(node_modules / "client.js"), str(ROOT / "protos"), *addresses]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert "a cat" in said["batch"]["entries"]
    assert len(said["batch"]["row_offsets"]) == 3
    assert [reply["batch_id"] for reply in said["streamed"]] == [0, 1]
    assert said["runs"][0]["run_id"] == run.run_id
    assert said["missing"] == 5, "NOT_FOUND"


class CountedLists(LedgerClient):
    """Says how often tasks were listed."""

    lists = 0

    def list_tasks(
        self, run_id: str, stage: pb.Stage.ValueType, emission_key: str = ""
    ) -> Iterator[pb.TaskRecord]:
        self.lists += 1
        return super().list_tasks(run_id, stage, emission_key)


def score_lease(run: pb.Run, opening: str) -> pb.Lease:
    task = pb.Task(run_id=run.run_id, stage=pb.STAGE_SCORE, emission_key=run.emissions[0].key)
    return pb.Lease(task=task, opening=opening)


def test_finished_tasks_are_listed_once_per_opening(stack: LocalStack, run: pb.Run) -> None:
    with CountedLists(stack.counter) as ledger:
        finished = FinishedTasks(ledger)
        records = finished.before(score_lease(run, "1"), pb.STAGE_MATCH)
        assert [record.task.index for record in records] == list(range(run.spec.num_tasks))
        assert finished.before(score_lease(run, "1"), pb.STAGE_MATCH) is records
        assert ledger.lists == 1
        assert finished.before(score_lease(run, "2"), pb.STAGE_MATCH) == records
        (frozen,) = finished.before(score_lease(run, "2"), pb.STAGE_FREEZE)
        assert frozen.result.freeze.snapshot_id
        assert ledger.lists == 3


def test_tasks_that_are_not_finished_are_listed_again(
    stack: LocalStack, run: pb.Run, tmp_path: Path
) -> None:
    spec = pb.RunSpec()
    spec.CopyFrom(run.spec)
    spec.output_url = str(tmp_path)
    with CountedLists(stack.counter) as ledger:
        stopped = ledger.create_run("stopped", spec, [])
        ledger.cancel_run("stopped")
        finished = FinishedTasks(ledger)
        lease = pb.Lease(task=pb.Task(run_id=stopped.run_id, stage=pb.STAGE_FREEZE), opening="1")
        for _ in range(2):
            assert len(finished.before(lease, pb.STAGE_MATCH)) == spec.num_tasks
        assert ledger.lists == 2


def test_lists_of_large_results_come_in_several_messages() -> None:
    hits = {f"language {number}": 2**40 for number in range(300)}
    result = pb.TaskResult(match=pb.MatchResult(hits=hits))
    records = [pb.TaskRecord(task=pb.Task(index=n), result=result) for n in range(500)]
    messages = list(list_messages(records))
    assert [record for message in messages for record in message.tasks] == records
    assert all(message.ByteSize() < 2 * LIST_BYTES for message in messages)
    assert len(messages) > 1
