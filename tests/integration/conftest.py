"""A ledger and counts over every kind of Redis, with an empty database for every test."""

from collections.abc import Iterator

import pytest

from services.counter.counts import CountStore
from services.counter.ledger import Ledger
from services.counter.settings import CounterSettings
from services.counter.store import Store
from tests.observed import Observed, observe
from tests.redis_servers import SOURCES, binary, cluster, server

INSTALLED = [name for name, source in SOURCES.items() if source.binary()]


@pytest.fixture(scope="session", params=[*INSTALLED, *map("cluster of {}".format, INSTALLED)])
def redis_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of each server that is here (see `test_servers.py`), and of clusters of it."""
    name = request.param.rpartition(" ")[2]
    if name == request.param:
        with server(binary(name)) as alone:
            yield alone.url
    else:
        with cluster(binary(name)) as found:
            yield found.url


@pytest.fixture
def store(redis_url: str) -> Iterator[Store]:
    """An empty Redis."""
    store = Store(redis_url)
    store.redis.flushall()
    yield store
    store.close()


@pytest.fixture
def ledger(store: Store) -> Ledger:
    """A ledger with short leases and no back-off."""
    settings = CounterSettings(
        lease_seconds=0.3, backoff_seconds=0.0, max_failures=3, second_opinion_seconds=0.2
    )
    return Ledger(store, settings)


@pytest.fixture
def count_store(store: Store) -> CountStore:
    """The counts of the same Redis."""
    return CountStore(store)


@pytest.fixture(scope="session")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """What the running system showed of a small pool, in metrics, logs and traces."""
    return observe(tmp_path_factory.mktemp("observed"))
