"""Run the matcher service: `python -m services.matcher` (settings: CLIPCURATE_MATCHER_*)."""

from clipcurate.matching import warm_up
from clipcurate.memory import keep_freed_memory
from clipcurate.metadata import load
from clipcurate.rpc.clients import CounterClient, LedgerClient
from clipcurate.rpc.process import run_service
from clipcurate.rpc.server import Server
from clipcurate.rpc.v1 import matcher_pb2_grpc
from clipcurate.rpc.worker import Worker
from services.matcher.library import Library
from services.matcher.service import MatcherService
from services.matcher.settings import MatcherSettings
from services.matcher.tables import TableStore
from services.matcher.tasks import STAGES, MatcherTasks

SERVICES = ["clipcurate.v1.Matcher"]


def main() -> None:
    """Serve clients, and work for the counter if one is named, until a signal."""
    keep_freed_memory()
    settings = MatcherSettings()
    tables = TableStore(settings.tables_folder)
    library = Library(tables, settings.cache_bytes, expected=len(settings.metadata))
    with Server(settings, SERVICES) as server:
        matcher_pb2_grpc.add_MatcherServicer_to_server(MatcherService(library), server.grpc)
        server.start()
        warm_up()
        for url in settings.metadata:
            library.pin(load(url), settings.rule, settings.engine)
        server.set_ready(True)
        if settings.counter:
            _work(settings, library, server)
        server.wait()


def _work(settings: MatcherSettings, library: Library, server: Server) -> None:
    with (
        LedgerClient(settings.counter, settings) as ledger,
        CounterClient(settings.counter, settings) as counter,
    ):
        tasks = MatcherTasks(library, ledger, counter)
        Worker(ledger, STAGES, tasks.handle).run(server.stopping)


if __name__ == "__main__":
    run_service("matcher", main)
