"""`clipcurate up`, and the verbs that talk to running services."""

import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from clipcurate.cli import options as opt
from clipcurate.cli.following import dataset_folders, register, state_name, updates
from clipcurate.cli.local import StackOptions, local_stack, state_held
from clipcurate.cli.progress import (
    describe_counts,
    follow,
    follow_as_json,
    say,
    show_outcome,
    show_problems,
)
from clipcurate.cli.submission import Submission, prepare
from clipcurate.cli.wanted import Target, Wanted, spread
from clipcurate.errors import UnavailableError
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.patience import AWAY_SECONDS
from clipcurate.rpc.run_archive import load_run
from clipcurate.rpc.settings import SecuritySettings
from clipcurate.rpc.signals import stop_on_signals
from clipcurate.rpc.v1 import ledger_pb2 as pb

console = Console(stderr=True)
WIDEST = 1000
"""Characters that a line of the list of runs may have, however narrow the terminal is."""
RunId = Annotated[str, typer.Argument(help="A run's id, or the beginning of it.")]


def up(
    state: Annotated[Path, typer.Option("--state", help="Folder for Redis's data and logs.")],
    listen: Annotated[str, typer.Option("--listen", help="Counter's address.")] = (
        opt.DEFAULT_SERVER
    ),
    matcher_listen: Annotated[str, typer.Option("--matcher-listen", help="Matcher's address.")] = (
        "127.0.0.1:50052"
    ),
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", help="Entries for `match --server`.")
    ] = None,
    workers: opt.Workers = 2,
    redis: opt.RedisUrl = "",
    trainer: Annotated[bool, typer.Option(help="Start the trainer too (needs torch).")] = True,
) -> None:
    """Run Redis and the four services on this machine until Ctrl-C."""
    options = StackOptions(
        state.absolute(),
        workers,
        redis,
        trainer,
        listen,
        matcher_listen,
        tuple(opt.absolute(url) for url in metadata or ()),
    )
    stopping = threading.Event()
    stop_on_signals(stopping)
    with state_held(options.state), local_stack(options) as stack:
        for name, address in stack.addresses.items():
            say(console, f"{name:12} {address}")
        say(console, "ready; Ctrl-C stops everything")
        stopping.wait()


@spread
def submit(
    pool: opt.Pool,
    metadata: opt.MetadataFiles,
    output: opt.Output,
    server: opt.Server = opt.DEFAULT_SERVER,
    anew: opt.Anew = False,
    *,
    target: Target,
    wanted: Wanted,
    watching: Annotated[
        bool, typer.Option("--watch", help="Wait for the end, and print the datasets' folders.")
    ] = False,
) -> None:
    """Plan a pool here and hand the run to running services; prints the run's id.

    This machine must see the pool and the output under the same names as the services do.
    """
    emissions, training = wanted.emissions(target), wanted.training()
    submission = prepare(wanted.run(pool, metadata, output), emissions, training)
    with LedgerClient(server, SecuritySettings()) as ledger:
        register(ledger, submission, anew=anew, waiting=_say_that_it_waits)
        if watching:
            _wait_for_end(ledger, submission)
        else:
            print(submission.run_id)


def _say_that_it_waits(error: UnavailableError) -> None:
    say(console, f"waiting for up to {AWAY_SECONDS:.0f} s: {error}", markup=False)


def _wait_for_end(ledger: LedgerClient, submission: Submission) -> None:
    say(console, f"run {submission.run_id}")
    run = follow(updates(ledger, submission), console)
    show_outcome(run, console)
    folders = dataset_folders(run, submission)
    if folders is None:
        say(console, f"[red]the run is {state_name(run)}[/red]: mend the cause, then `retry`")
        raise typer.Exit(1)
    for folder in folders:
        print(folder)


def list_runs(server: opt.Server = opt.DEFAULT_SERVER) -> None:
    """List the runs that the services know."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("run", "state", "counted", "counts", "pairs", "hits", "published"):
        table.add_column(heading, no_wrap=True)
    with LedgerClient(server, SecuritySettings()) as ledger:
        found = ledger.list_runs()
        for run in found.runs:
            match = next((s for s in run.stages if s.stage == pb.STAGE_MATCH), pb.StageProgress())
            published = sum(emission.HasField("published") for emission in run.emissions)
            table.add_row(
                run.run_id,
                state_name(run),
                f"{match.done}/{match.total}",
                describe_counts(run),
                f"{run.pairs:,}",
                f"{run.hits:,}",
                f"{published}/{len(run.emissions)}",
            )
    out = Console()
    whole = out.measure(table, options=out.options.update(max_width=WIDEST)).maximum
    Console(width=max(whole, out.width)).print(table)  # half a run id names nothing
    if newer := found.newer_run_ids:
        ids = ", ".join(newer)
        say(console, f"[yellow]made by a newer release; upgrade the counter to see: {ids}[/yellow]")
    for run in found.runs:
        if run.state == pb.RUN_STATE_ARCHIVED:
            say(out, f"{run.run_id} is archived in {escape(run.archive.url)}")


def watch(
    run_id: RunId,
    server: opt.Server = opt.DEFAULT_SERVER,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the run as a JSON line at every update.")
    ] = False,
) -> None:
    """Show a run's progress until it has ended; exit status 0 if it is done.

    Of an archived run, show what its archive says.
    """
    with LedgerClient(server, SecuritySettings()) as ledger:
        updates = ledger.watch_run(full_id(ledger, run_id))
        run = follow_as_json(updates) if as_json else follow(updates, console)
    if run.state == pb.RUN_STATE_ARCHIVED:
        say(console, f"{run.run_id} is archived in {escape(run.archive.url)}")
        run = load_run(run.archive)
    if not as_json:
        show_outcome(run, console)
    raise typer.Exit(run.state != pb.RUN_STATE_DONE)


def cancel(run_id: RunId, server: opt.Server = opt.DEFAULT_SERVER) -> None:
    """Stop a run; `retry` brings it back."""
    with LedgerClient(server, SecuritySettings()) as ledger:
        run = ledger.cancel_run(full_id(ledger, run_id))
    say(console, f"{run.run_id} is {state_name(run)}")


def retry(
    run_id: RunId,
    server: opt.Server = opt.DEFAULT_SERVER,
    accept_quarantine: Annotated[
        bool, typer.Option("--accept-quarantine", help="Give up on blocked match tasks' rows.")
    ] = False,
    include_quarantined: Annotated[
        bool, typer.Option("--include-quarantined", help="Try quarantined inputs again too.")
    ] = False,
) -> None:
    """Put a run's blocked tasks back to work, or accept that their inputs are unreadable."""
    with LedgerClient(server, SecuritySettings()) as ledger:
        run = ledger.retry_run(
            full_id(ledger, run_id),
            accept_quarantine=accept_quarantine,
            include_quarantined=include_quarantined,
        )
    show_problems(run, console)
    say(console, f"{run.run_id} is {state_name(run)}")


def full_id(ledger: LedgerClient, beginning: str) -> str:
    """Complete the beginning of a run id; leave it as it is where that is not clear."""
    runs = ledger.list_runs()
    known = [*(run.run_id for run in runs.runs), *runs.newer_run_ids]
    found = [run_id for run_id in known if run_id.startswith(beginning)]
    return found[0] if len(found) == 1 else beginning
