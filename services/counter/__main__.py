"""Run the counter service: `python -m services.counter` (settings: CLIPCURATE_COUNTER_*)."""

import logging
import sys
import threading

import redis
from prometheus_client import REGISTRY

from clipcurate.errors import ClipcurateError
from clipcurate.rpc.server import Server
from clipcurate.rpc.v1 import counter_pb2_grpc, ledger_pb2_grpc
from services.counter.counts import CountStore
from services.counter.ledger import Ledger
from services.counter.metrics import RunCollector
from services.counter.service import CounterService, LedgerService
from services.counter.settings import CounterSettings
from services.counter.stability import Stability
from services.counter.store import Store, translate

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
        REGISTRY.register(RunCollector(ledger))
        server.start()
        watching = threading.Thread(target=_follow_redis, args=(store, settings, server))
        watching.start()
        server.wait()
        watching.join()


def _follow_redis(store: Store, settings: CounterSettings, server: Server) -> None:
    """Be ready while Redis answers durably, and only then."""
    answered: bool | None = None
    ready = False
    while not server.stopping.is_set():
        answers = _ping(store)
        if answers is not answered:
            log.log(*_news(answers, settings.redis_url))
        if answers is not answered or not ready:
            ready = answers and _durable_enough(store, settings)
            server.set_ready(ready)
        answered = answers
        server.stopping.wait(PING_SECONDS if answers else PING_SECONDS / 5)


def _ping(store: Store) -> bool:
    try:
        return bool(store.redis.ping())
    except redis.RedisError:
        return False


def _news(answers: bool, url: str) -> tuple[int, str]:
    place = url.rpartition("@")[2]
    if answers:
        return logging.INFO, f"Redis answers at {place}"
    return logging.WARNING, f"Redis does not answer at {place}; not ready until it does"


def _durable_enough(store: Store, settings: CounterSettings) -> bool:
    try:
        durable = store.is_durable() is True
    except redis.RedisError:
        durable = False
    if not durable:
        level = logging.ERROR if settings.require_durable else logging.WARNING
        log.log(level, "Redis may lose acknowledged writes: set appendonly yes, appendfsync always")
    return durable or not settings.require_durable


if __name__ == "__main__":
    try:
        main()
    except ClipcurateError as failure:
        sys.exit(f"counter: {failure}")
