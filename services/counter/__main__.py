"""Run the counter service: `python -m services.counter` (settings: CLIPCURATE_COUNTER_*)."""

import logging
import threading

from prometheus_client import REGISTRY

from clipcurate.rpc.process import run_service
from clipcurate.rpc.server import Server
from clipcurate.rpc.v1 import counter_pb2_grpc, ledger_pb2_grpc
from services.counter.access import Access
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
    store = Store(settings.redis_url, Access.of(settings))
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
        ailment = store.ailment() or ("" if ready else store.forbids())
        if bool(ailment) is answered or not ready:
            found = _judge(store, ailment)
            ready = not ailment and (found.proven or not settings.require_durable)
            server.set_ready(ready)
            if (news := f"{_news(store.place, ailment)}{found.remark}") != said:
                log.log(_level(ready, found.proven), news)
                said = news
        answered = not ailment
        server.stopping.wait(PING_SECONDS / 5 if ailment else PING_SECONDS)


def _judge(store: Store, ailment: str) -> Durability:
    try:
        return Durability(False) if ailment else durability(store.nodes())
    except FAILURES as error:
        return Durability(False, f"it cannot be asked how it writes: {error}")


def _news(place: str, ailment: str) -> str:
    if ailment:
        return f"Redis cannot be used at {place}: {ailment}; not ready until it can"
    return f"Redis answers at {place}. "


def _level(ready: bool, proven: bool) -> int:
    if not ready:
        return logging.ERROR
    return logging.INFO if proven else logging.WARNING


if __name__ == "__main__":
    run_service("counter", main)
