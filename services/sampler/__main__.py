"""Run the sampler service: `python -m services.sampler` (settings: CLIPCURATE_SAMPLER_*)."""

from clipcurate.kernels.entry import compiled_ahead
from clipcurate.memory import keep_freed_memory
from clipcurate.rpc.clients import CounterClient, LedgerClient
from clipcurate.rpc.process import run_service
from clipcurate.rpc.server import Server
from clipcurate.rpc.v1 import sampler_pb2_grpc
from clipcurate.rpc.worker import Worker
from services.sampler.service import SamplerService
from services.sampler.settings import SamplerSettings
from services.sampler.tasks import STAGES, SamplerTasks

SERVICES = ["clipcurate.v1.Sampler"]


def main() -> None:
    """Serve clients and work for the counter until a signal."""
    keep_freed_memory()
    settings = SamplerSettings()
    compiled_ahead()  # where it cannot run, the service ends here and not each task
    with (
        LedgerClient(settings.counter, settings) as ledger,
        CounterClient(settings.counter, settings) as counter,
        Server(settings, SERVICES) as server,
    ):
        sampler_pb2_grpc.add_SamplerServicer_to_server(SamplerService(ledger), server.grpc)
        server.start()
        server.set_ready(True)
        Worker(ledger, STAGES, SamplerTasks(ledger, counter).handle).run(server.stopping)
        server.wait()


if __name__ == "__main__":
    run_service("sampler", main)
