"""Following a run that was submitted to its end, and what came of it."""

from collections.abc import Iterator

from clipcurate.cli.submission import Submission
from clipcurate.errors import NotFoundError, UnavailableError
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.patience import Patience, Waiting, patiently, silent
from clipcurate.rpc.v1 import ledger_pb2 as pb

WATCH_SECONDS = 0.5


def register(
    ledger: LedgerClient,
    submission: Submission,
    *,
    anew: bool = False,
    waiting: Waiting = silent,
) -> None:
    """Hand a run to the services; again changes nothing, `anew` starts an archived one.

    Planning it may have taken long, so a counter that is away is waited for; `waiting` is told.
    """
    wanted = (submission.run_id, submission.spec, submission.emissions)
    patiently(lambda: ledger.create_run(*wanted, anew=anew), waiting)


def updates(ledger: LedgerClient, submission: Submission) -> Iterator[pb.Run]:
    """Watch the run, also across restarts of the counter and losses of Redis's data.

    Raises:
        UnavailableError: the counter or Redis stayed away for AWAY_SECONDS.
    """
    patience = Patience()
    while True:
        try:
            for run in ledger.watch_run(submission.run_id, WATCH_SECONDS):
                patience = Patience()
                yield run
        except UnavailableError as error:
            patience.wait(error)
        except NotFoundError:  # Redis came back empty: the plan in storage still says what to do
            register(ledger, submission)
        else:
            return


def dataset_folders(run: pb.Run, submission: Submission) -> list[str] | None:
    """Return the folder of each dataset that was submitted; None unless all are complete."""
    wanted = [emission for emission in run.emissions if emission.spec in submission.emissions]
    last = pb.STAGE_SEAL if run.frozen_early else pb.STAGE_FREEZE
    counted = any(s.stage == last and s.done for s in run.stages)
    if not counted or not all(_complete(emission) for emission in wanted):
        return None
    return [emission.plan.dataset_url for emission in wanted]


def state_name(run: pb.Run) -> str:
    """Name a run's state for people."""
    return pb.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()


def _complete(emission: pb.Emission) -> bool:
    return emission.HasField("trained" if emission.spec.train.preset else "published")
