"""Run the counter service: `python -m services.counter` (settings: CLIPCURATE_COUNTER_*)."""

import logging
import threading

from prometheus_client import REGISTRY

from clipcurate.rpc.process import run_service
from clipcurate.rpc.server import Server
from clipcurate.rpc.v1 import counter_pb2_grpc, ledger_pb2_grpc
from services.counter.counts import CountStore
from services.counter.durability import Durability, durability
from services.counter.ledger import Ledger
from services.counter.run_metrics import RunCollector
from services.counter.service import CounterService, LedgerService
from services.counter.settings import CounterSettings
from services.counter.stability import Stability
from services.counter.store import FAILURES, Store, translate

log = logging.getLogger("services.counter")
SERVICES = ["clipcurate.v1.Counter", "clipcurate.v1.Ledger"]
PING_SECONDS = 1.0


def main() -> None:
    """Serve until a signal; ready whenever Redis answers."""
    settings = CounterSettings()
    store = Store(settings.redis_url)
    ledger = Ledger(store, settings)
    with Server(settings, SERVICES, translate) as server:
        counts = CountStore(store)
        counter = CounterService(ledger, counts, Stability(store, ledger, counts))
        counter_pb2_grpc.add_CounterServicer_to_server(counter, server.grpc)
        ledger_pb2_grpc.add_LedgerServicer_to_server(
            LedgerService(ledger, server.stopping, settings.threads), server.grpc
        )
        REGISTRY.register(RunCollector(ledger, store))
        server.start()
        watching = threading.Thread(target=_follow_redis, args=(store, settings, server))
        watching.start()
        server.wait()
        watching.join()


def _follow_redis(store: Store, settings: CounterSettings, server: Server) -> None:
    """Be ready while Redis answers, durably if that is required, and only then."""
    answered: bool | None = None
    ready, said = False, ""
    while not server.stopping.is_set():
        answers = store.answers()
        if answers is not answered or not ready:
            found = _judge(store, answers)
            ready = answers and (found.proven or not settings.require_durable)
            server.set_ready(ready)
            if (news := f"{_news(answers, settings.redis_url)}{found.remark}") != said:
                log.log(_level(ready, found.proven), news)
                said = news
        answered = answers
        server.stopping.wait(PING_SECONDS if answers else PING_SECONDS / 5)


def _judge(store: Store, answers: bool) -> Durability:
    try:
        return durability(store.nodes()) if answers else Durability(False)
    except FAILURES as error:
        return Durability(False, f"it cannot be asked how it writes: {error}")


def _news(answers: bool, url: str) -> str:
    place = url.rpartition("@")[2]
    if answers:
        return f"Redis answers at {place}. "
    return f"Redis does not answer at {place}; not ready until it does"


def _level(ready: bool, proven: bool) -> int:
    if not ready:
        return logging.ERROR
    return logging.INFO if proven else logging.WARNING


if __name__ == "__main__":
    run_service("counter", main)
