"""Run the trainer service: `python -m services.trainer` (settings: CLIPCURATE_TRAINER_*)."""

from contextlib import closing

from clipcurate.errors import ClipcurateError, NotFoundError
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.process import run_service
from clipcurate.rpc.server import Server
from clipcurate.rpc.v1 import ledger_pb2, trainer_pb2_grpc
from clipcurate.rpc.worker import Worker
from clipcurate.training.launch import Launcher
from services.trainer.jobs import Jobs
from services.trainer.launchers import launcher_of
from services.trainer.service import TrainerService
from services.trainer.settings import TrainerSettings
from services.trainer.tasks import TrainTasks

SERVICES = ["clipcurate.v1.Trainer"]
_WANTS_TRAINING = (ledger_pb2.RUN_STATE_ACTIVE, ledger_pb2.RUN_STATE_BLOCKED)


def main() -> None:
    """Serve clients, and train for the counter's runs if one is named, until a signal."""
    settings = TrainerSettings()
    launcher = launcher_of(settings)
    with Server(settings, SERVICES) as server, closing(Jobs(launcher)) as jobs:
        jobs.adopt()
        trainer_pb2_grpc.add_TrainerServicer_to_server(TrainerService(jobs), server.grpc)
        server.start()
        server.set_ready(True)
        if settings.counter:
            _work(settings, jobs, server, launcher)
        server.wait()


def _work(settings: TrainerSettings, jobs: Jobs, server: Server, launcher: Launcher) -> None:
    with LedgerClient(settings.counter, settings) as ledger:
        tasks = TrainTasks(jobs, launcher.outlives, lambda run_id: _is_over(ledger, run_id))
        worker = Worker(ledger, [ledger_pb2.STAGE_TRAIN], tasks.handle)
        worker.run_side_by_side(server.stopping, min(settings.tasks, launcher.at_once))


def _is_over(ledger: LedgerClient, run_id: str) -> bool:
    """Say whether a run was cancelled or is gone; not if the counter cannot be asked."""
    try:
        return ledger.get_run(run_id).state not in _WANTS_TRAINING
    except NotFoundError:
        return True
    except ClipcurateError:
        return False


if __name__ == "__main__":
    run_service("trainer", main)
