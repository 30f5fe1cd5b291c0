"""`clipcurate archive`: takes a run that has ended out of Redis; what it left stays in storage."""

from rich.console import Console
from rich.progress import track

from clipcurate.cli import options as opt
from clipcurate.cli.following import state_name
from clipcurate.cli.progress import say
from clipcurate.cli.recounting import record_ref
from clipcurate.cli.runs import RunId, full_id
from clipcurate.datasets.run_record import FrozenRun
from clipcurate.errors import ConflictError
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.references import read
from clipcurate.rpc.run_archive import write_archive
from clipcurate.rpc.settings import SecuritySettings
from clipcurate.rpc.v1 import ledger_pb2 as pb

ENDED = (pb.RUN_STATE_DONE, pb.RUN_STATE_CANCELLED)

console = Console(stderr=True)


def archive(run_id: RunId, server: opt.Server = opt.DEFAULT_SERVER) -> None:
    """Take a run that is done or cancelled out of Redis; prints the archive's URL.

    First reads all that the run's record names, and refuses if anything is missing or changed.
    Repeating it finishes what was interrupted.
    """
    with LedgerClient(server, SecuritySettings()) as ledger:
        run = ledger.get_run(full_id(ledger, run_id))
        kept = run.archive if run.state == pb.RUN_STATE_ARCHIVED else _archived(ledger, run)
        run = ledger.archive_run(run.run_id, run.revision, kept)
    say(console, f"{run.run_id} is {state_name(run)}")
    print(run.archive.url)


def _archived(ledger: LedgerClient, run: pb.Run) -> pb.ObjectRef:
    """Check what the run left in storage, and store the rest."""
    if run.state not in ENDED:
        raise ConflictError(
            f"run {run.run_id} is {state_name(run)}: archive it when it is done, or cancel it first"
        )
    _check(ledger, run)
    with console.status("writing the archive"):
        return write_archive(ledger, run)


def _check(ledger: LedgerClient, run: pb.Run) -> None:
    """Raise NotFoundError or StorageError unless storage holds what the run's record names."""
    record = record_ref(run, ledger)
    if not record.url:
        say(console, "it was cancelled before it had a record: its counts go, its files stay")
        return
    read(record)
    found = FrozenRun.open(record.url)
    objects = found.record.objects()
    for stored in track(objects, "checking objects", console=console, transient=True):
        found.check(stored)
