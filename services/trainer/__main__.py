"""Run the trainer service: `python -m services.trainer` (settings: CLIPCURATE_TRAINER_*)."""

import sys
from contextlib import closing

from clipcurate.errors import ClipcurateError
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.server import Server
from clipcurate.rpc.v1 import ledger_pb2, trainer_pb2_grpc
from clipcurate.rpc.worker import Worker
from services.trainer.jobs import Jobs
from services.trainer.service import TrainerService
from services.trainer.settings import TrainerSettings
from services.trainer.tasks import TrainTasks

SERVICES = ["clipcurate.v1.Trainer"]


def main() -> None:
    """Serve clients, and train for the counter's runs if one is named, until a signal."""
    settings = TrainerSettings()
    with Server(settings, SERVICES) as server, closing(Jobs(settings.torch_threads)) as jobs:
        trainer_pb2_grpc.add_TrainerServicer_to_server(TrainerService(jobs), server.grpc)
        server.start()
        server.set_ready(True)
        if settings.counter:
            _work(settings, jobs, server)
        server.wait()


def _work(settings: TrainerSettings, jobs: Jobs, server: Server) -> None:
    with LedgerClient(settings.counter, settings) as ledger:
        Worker(ledger, [ledger_pb2.STAGE_TRAIN], TrainTasks(jobs).handle).run(server.stopping)


if __name__ == "__main__":
    try:
        main()
    except ClipcurateError as failure:
        sys.exit(f"trainer: {failure}")
