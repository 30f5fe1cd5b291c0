"""`clipcurate run`: everything on this machine, from raw pool to dataset (and model)."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer
from rich.console import Console
from rich.markup import escape

from clipcurate import storage
from clipcurate.cli import options as opt
from clipcurate.cli.local import StackOptions, local_stack, state_held
from clipcurate.cli.progress import follow, say, show_languages, show_outcome
from clipcurate.cli.submission import Submission, prepare
from clipcurate.cli.wanted import Target, Wanted, spread
from clipcurate.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.v1 import ledger_pb2 as pb

SUBMISSION = "submission.json"
WATCH_SECONDS = 0.5
AWAY_SECONDS = 60.0
"""How long the counter or Redis may be away, restarts included, before the command gives up."""

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
        _register(ledger, submission, anew=anew)
        if resume:
            ledger.retry_run(submission.run_id)
        return follow(_updates(ledger, submission), console)


def _register(ledger: LedgerClient, submission: Submission, *, anew: bool = False) -> None:
    ledger.create_run(submission.run_id, submission.spec, submission.emissions, anew=anew)


def _updates(ledger: LedgerClient, submission: Submission) -> Iterator[pb.Run]:
    """Watch the run, also across restarts of the counter and losses of Redis's data.

    Raises:
        UnavailableError: the counter or Redis stayed away for AWAY_SECONDS.
    """
    heard = time.monotonic()
    while True:
        try:
            for run in ledger.watch_run(submission.run_id, WATCH_SECONDS):
                heard = time.monotonic()
                yield run
        except UnavailableError:
            if time.monotonic() - heard > AWAY_SECONDS:
                raise
            time.sleep(WATCH_SECONDS)
        except NotFoundError:  # Redis came back empty: the plan in storage still says what to do
            _register(ledger, submission)
        else:
            return


def _finish(run: pb.Run, submission: Submission, saved: str) -> None:
    show_outcome(run, console)
    wanted = [emission for emission in run.emissions if emission.spec in submission.emissions]
    last = pb.STAGE_SEAL if run.frozen_early else pb.STAGE_FREEZE
    counted = any(s.stage == last and s.done for s in run.stages)
    if not counted or not all(_complete(emission) for emission in wanted):
        state = pb.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()
        say(console, f"[red]the run is {state}[/red]: mend the cause, then add --resume")
        raise typer.Exit(1)
    submission.with_finished().save(saved)
    for emission in wanted:
        print(emission.plan.dataset_url)


def _complete(emission: pb.Emission) -> bool:
    return emission.HasField("trained" if emission.spec.train.preset else "published")


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
