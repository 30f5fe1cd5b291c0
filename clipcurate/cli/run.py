"""`clipcurate run`: everything on this machine, from raw pool to dataset (and model)."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer
from rich.console import Console
from rich.markup import escape

from clipcurate import storage
from clipcurate.cli import options as opt
from clipcurate.cli.following import dataset_folders, register, state_name, updates
from clipcurate.cli.local import StackOptions, local_stack, state_held
from clipcurate.cli.progress import follow, say, show_languages, show_outcome
from clipcurate.cli.submission import Submission, prepare
from clipcurate.cli.wanted import Target, Wanted, spread
from clipcurate.errors import ConflictError, InvalidInputError
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.v1 import ledger_pb2 as pb

SUBMISSION = "submission.json"

console = Console(stderr=True)


@spread
def run(
    output: opt.Output,
    pool: opt.Pool = [],  # noqa: B006 - Typer's way to say: may be absent
    metadata: opt.MetadataFiles = [],  # noqa: B006
    *,
    target: Target,
    wanted: Wanted,
    workers: opt.Workers = 2,
    resume: bool = typer.Option(False, "--resume", help="Go on with the unfinished run."),
    abandon: bool = typer.Option(False, "--abandon", help="Forget the unfinished run's datasets."),
    anew: opt.Anew = False,
    redis: opt.RedisUrl = "",
    state: opt.State = None,
) -> None:
    """Match, count, balance and emit a pool on this machine; train on it if asked.

    Ctrl-C leaves a run that --resume continues. Prints the folder of each dataset to stdout.
    """
    folder = opt.state_folder(state, output)
    saved = storage.join(str(folder), SUBMISSION)
    with state_held(folder):
        submission = Submission.load(saved)
        if resume:
            submission = _resumed(submission, output, given=[*pool, *metadata])
        else:
            if not abandon:
                _refuse_unfinished(submission, output)
            _require(pool, metadata)
            emissions, training = wanted.emissions(target), wanted.training()
            say(console, "planning the pool")
            submission = prepare(wanted.run(pool, metadata, output), emissions, training)
            submission.save(saved)
        trains = any(emission.train.preset for emission in submission.emissions)
        stack = StackOptions(folder, workers, redis, trains)
        _finish(_execute(submission, stack, resume, anew), submission, saved)


def _execute(
    submission: Submission, stack_options: StackOptions, resume: bool, anew: bool
) -> pb.Run:
    """Start the system, watch the run to its end, stop the system."""
    logs = escape(str(stack_options.state / "logs"))
    say(console, f"run {submission.run_id}; logs in {logs}")
    show_languages(submission.spec, console)
    with (
        _interruptible(),
        local_stack(stack_options) as stack,
        LedgerClient(stack.counter) as ledger,
    ):
        register(ledger, submission, anew=anew)
        if resume:
            ledger.retry_run(submission.run_id)
        return follow(updates(ledger, submission), console)


def _finish(run: pb.Run, submission: Submission, saved: str) -> None:
    show_outcome(run, console)
    folders = dataset_folders(run, submission)
    if folders is None:
        say(console, f"[red]the run is {state_name(run)}[/red]: mend the cause, then add --resume")
        raise typer.Exit(1)
    submission.with_finished().save(saved)
    for folder in folders:
        print(folder)


def _resumed(submission: Submission | None, output: str, given: list[str]) -> Submission:
    if submission is None:
        raise InvalidInputError(f"{output}: no run to resume here")
    if any(given):
        raise InvalidInputError("--resume goes on as submitted: leave out --pool and --metadata")
    if submission.spec.output_url != opt.absolute(output):
        raise ConflictError(
            f"{output}: the run here writes to {submission.spec.output_url}; move it back"
        )
    return submission


def _refuse_unfinished(submission: Submission | None, output: str) -> None:
    if submission is not None and not submission.finished:
        raise ConflictError(
            f"{output}: an unfinished run is here; --resume goes on with it, --abandon forgets it"
        )


def _require(pool: list[str], metadata: list[str]) -> None:
    for name, value in (("--pool", pool), ("--metadata", metadata)):
        if not value:
            raise InvalidInputError(f"{name} is missing (only --resume goes without)")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Treat SIGTERM as Ctrl-C: stop the services in order and leave a resumable run."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt:
        console.print("\n[yellow]stopped[/yellow]; the same output with --resume goes on")
        raise typer.Exit(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)
