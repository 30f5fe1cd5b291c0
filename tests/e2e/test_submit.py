"""`clipcurate submit`: a run handed to services that are running, and followed to its end."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clipcurate.cli.local import StackOptions, local_stack
from clipcurate.datasets.verify import verify_dataset
from clipcurate.rpc.clients import LedgerClient
from tests.conftest import CommandLine
from tests.pools import make_pool, write_metadata
from tests.waiting import wait_until

ROWS = 200


@pytest.fixture
def inputs(tmp_path: Path) -> list[object]:
    make_pool(tmp_path / "pool", ROWS)
    metadata = write_metadata(tmp_path / "metadata.json")
    return ["--pool", tmp_path / "pool", "--metadata", metadata, "--output", tmp_path / "out"]


def test_watch_waits_for_the_end_and_prints_the_folders(
    inputs: list[object], tmp_path: Path, command_line: CommandLine
) -> None:
    command = ["submit", *inputs, "--emit", "raw", "--emit", "balanced", "--t", 5]
    with local_stack(StackOptions(tmp_path / "state", workers=1)) as stack:
        done = command_line(*command, "--server", stack.counter, "--watch")
        again = command_line(*command, "--server", stack.counter)
    assert done.returncode == 0, done.stderr
    folders = done.stdout.split()
    assert {verify_dataset(folder).identity["kind"] for folder in folders} == {"raw", "balanced"}
    assert len(folders) == 2
    assert again.stdout.strip() in done.stderr  # the run's id, which is the same


def test_watch_fails_where_the_run_does_not_get_done(
    inputs: list[object], tmp_path: Path, command_line: CommandLine
) -> None:
    command = ["submit", *inputs, "--t", 5]
    with (
        local_stack(StackOptions(tmp_path / "state", workers=0)) as stack,
        LedgerClient(stack.counter) as ledger,
        ThreadPoolExecutor(1) as pool,
    ):
        watching = pool.submit(command_line, *command, "--server", stack.counter, "--watch")
        wait_until(lambda: ledger.list_runs().runs, 60, "the run is known")
        (run,) = ledger.list_runs().runs
        ledger.cancel_run(run.run_id)
        done = watching.result()
    assert (done.returncode, done.stdout) == (1, "")
    assert "the run is cancelled" in done.stderr
