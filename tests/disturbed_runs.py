"""Runs of the whole system that are driven through its clients, to disturb it on the way."""

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clipcurate.cli.local import LocalStack, StackOptions, local_stack
from clipcurate.cli.options import run_request
from clipcurate.cli.submission import Submission, prepare
from clipcurate.datasets.manifest import Manifest
from clipcurate.datasets.request import EmissionRequest
from clipcurate.datasets.verify import verify_dataset
from clipcurate.errors import UnavailableError
from clipcurate.pools import Columns
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.v1 import ledger_pb2 as pb

Disturb = Callable[[LocalStack, pb.Run], None]


def submission(inputs: Path, output: Path, emission: EmissionRequest, **more: Any) -> Submission:
    """Ask for one emission of the pool and the metadata in a folder."""
    metadata = [str(inputs / "metadata.json")]
    request = run_request([str(inputs / "pool")], Columns(), metadata, False, str(output), **more)
    return prepare(request, [emission])


def undisturbed(_stack: LocalStack, _run: pb.Run) -> None:
    """Let a run be."""


def disturbed_run(output: Path, wanted: Submission, workers: int, disturb: Disturb) -> Manifest:
    """Run a submission to its end; `disturb` sees it at every update. Verify the dataset."""
    options = StackOptions(output / "state", workers=workers, lease_seconds=1.0)
    with local_stack(options) as stack, LedgerClient(stack.counter) as ledger:
        ledger.create_run(wanted.run_id, wanted.spec, wanted.emissions)
        run = ledger.get_run(wanted.run_id)
        deadline = time.monotonic() + 180
        while run.state == pb.RUN_STATE_ACTIVE:
            assert time.monotonic() < deadline, run
            disturb(stack, run)
            time.sleep(0.01)
            with contextlib.suppress(UnavailableError):  # the counter may be among the victims
                run = ledger.get_run(wanted.run_id)
    assert run.state == pb.RUN_STATE_DONE, run.problems
    return verify_dataset(run.emissions[0].plan.dataset_url, str(output))


def kill_9(stack: LocalStack, service: str) -> int:
    """Kill the processes of a service, and return how many there were."""
    killed = 0
    for child in stack.supervisor.children:
        if child.name.startswith(service) and child.process is not None and child.alive:
            child.process.send_signal(signal.SIGKILL)
            killed += 1
    return killed
