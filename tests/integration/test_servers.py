"""The store over real servers that restart, fail over, move slots, or may lose what they wrote."""

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import numpy as np
import pytest
import redis
from redis.crc import key_slot

from clipcurate.errors import UnavailableError
from clipcurate.rpc.v1 import ledger_pb2 as pb
from services.counter.counts import CountStore
from services.counter.durability import durability
from services.counter.ledger import Ledger
from services.counter.settings import CounterSettings
from services.counter.store import FAILURES, Store, run_prefix, translate
from tests.integration.conftest import INSTALLED
from tests.redis_servers import SLOTS, SOURCES, Cluster, binary, cluster, server
from tests.waiting import wait_until

RUN = next(f"run-{n}" for n in range(99) if key_slot(run_prefix(f"run-{n}").encode()) < SLOTS // 3)
"""In a slot of a cluster's first server, which has a replica."""
TASKS = 3
CLUSTERED = sorted({INSTALLED[0], INSTALLED[-1]})
"""The oldest and the newest."""
SIZES = {"all": 20_000, "de": 5}
RECOVER_SECONDS = 20
MANAGED = ["--user", "default", "on", "nopass", "~*", "+@all"]
"""A user from whom commands may be taken, as providers do."""


class Work:
    """A run whose every task counts 1 for each entry of a language."""

    def __init__(self, url: str) -> None:
        self.store = Store(url)
        self.ledger = Ledger(self.store, CounterSettings(lease_seconds=60))
        self.counts = CountStore(self.store)
        self.done = 0

    def begin(self) -> None:
        metadata = [pb.MetadataRef(language=name, num_entries=size) for name, size in SIZES.items()]
        spec = pb.RunSpec(output_url="/nowhere", num_tasks=TASKS, metadata=metadata)
        self.ledger.create(RUN, spec, [])

    def step(self) -> None:
        """Claim, count and complete a task."""
        lease = self.ledger.claim("worker", [pb.STAGE_MATCH])
        assert lease is not None
        self.count(lease.task.index)
        self.ledger.complete(lease, pb.TaskResult(match=pb.MatchResult(hits=SIZES)))
        self.done += 1

    def count(self, task: int) -> None:
        every = {
            name: (np.arange(size, dtype=np.uint32), np.ones(size, np.uint32))
            for name, size in SIZES.items()
        }
        self.counts.add(RUN, SIZES, {task: every})

    def check(self) -> None:
        """Counts, marks and the ledger say the same."""
        counted, hits = self.ledger.counted_tasks(RUN)
        assert (len(counted), self.ledger.run_ids()) == (self.done, [RUN])
        for name, size in SIZES.items():
            found = self.counts.read(RUN, name, size)
            assert found.tolist() == [self.done] * size
            assert hits[name] == self.done * size
            assert self.counts.wrong_marks(RUN, name, size, counted) == (0, 0)


@contextmanager
def working(url: str) -> Iterator[Work]:
    """Begin a run; check it where the test got to its end, and close its store in any case."""
    work = Work(url)
    with closing(work.store):
        work.begin()
        yield work
        work.check()


def refused(work: Work) -> bool:
    """Say whether a claim fails; where it does, it must say that it may be repeated."""
    try:
        work.step()
    except FAILURES as error:
        assert isinstance(translate(error), UnavailableError), error
        return True
    return False


@pytest.mark.parametrize("name", SOURCES)
def test_the_server_is_of_a_supported_version(name: str) -> None:
    if name not in INSTALLED:
        pytest.skip(f"{name} is not installed: nothing here was tested with it")
    with server(binary(name)) as found, found.client() as client:
        version = client.info("server")["redis_version"]
    assert tuple(map(int, version.split(".")[:2])) >= (6, 2)


@pytest.mark.parametrize("name", INSTALLED)
def test_a_server_that_was_killed_goes_on_where_it_was(name: str) -> None:
    with server(binary(name)) as found, working(found.url) as work:
        work.step()
        found.kill()
        assert refused(work)
        assert work.store.ailment()
        found.start()
        work.step()


@pytest.mark.parametrize("name", CLUSTERED)
def test_a_cluster_that_was_killed_goes_on_where_it_was(name: str) -> None:
    with cluster(binary(name)) as found, working(found.url) as work:
        work.step()
        for node in found.servers:
            node.kill()
        assert refused(work)
        assert work.store.ailment()
        for node in found.servers:
            node.start()
        wait_until(lambda: not work.store.ailment(), RECOVER_SECONDS, "the cluster answers")
        work.step()


@pytest.mark.parametrize("name", CLUSTERED)
def test_a_replica_takes_over_and_counting_goes_on(name: str) -> None:
    with cluster(binary(name)) as found, working(found.url) as work:
        work.step()
        found.ask(0, "WAIT", 1, 5000)
        found.servers[0].kill()
        wait_until(lambda: not refused(work), RECOVER_SECONDS, "the replica takes over")
        work.check()
        found.servers[0].start()  # as a replica, by now
        work.step()


@pytest.mark.parametrize("name", CLUSTERED)
def test_while_a_slot_moves_nothing_is_done_by_halves(name: str) -> None:
    with cluster(binary(name)) as found, working(found.url) as work:
        work.step()
        slot = key_slot(run_prefix(RUN).encode())
        old, new = found.ask(0, "CLUSTER MYID"), found.ask(1, "CLUSTER MYID")
        found.ask(1, "CLUSTER SETSLOT", slot, "IMPORTING", old)
        found.ask(0, "CLUSTER SETSLOT", slot, "MIGRATING", new)
        keys = found.ask(0, "CLUSTER GETKEYSINSLOT", slot, 1000)
        half = len(keys) // 2
        for part in (keys[:half], keys[half:]):
            assert refused(work)
            with suppress(*FAILURES):  # counts as far as its ranges have not left
                work.count(TASKS - 1)
            move(found, part)
        for number in (1, 0):
            found.ask(number, "CLUSTER SETSLOT", slot, "NODE", new)
        wait_until(lambda: not refused(work), RECOVER_SECONDS, "the slot has arrived")
        work.step()


def move(found: Cluster, keys: list[bytes]) -> None:
    """Move keys from the first server to the second."""
    port = found.servers[1].options["port"]
    found.ask(0, "MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *keys)


def test_a_server_that_is_a_replica_for_a_while_is_away() -> None:
    with (
        server(binary(INSTALLED[0])) as found,
        found.client() as operator,
        working(found.url) as work,
    ):
        operator.replicaof("127.0.0.1", "1")
        assert refused(work)
        with pytest.raises(redis.RedisError) as caught:
            work.count(0)
        assert isinstance(translate(caught.value), UnavailableError)
        operator.replicaof("NO", "ONE")
        work.step()


@pytest.mark.parametrize(
    ("options", "remark"),
    [
        (["--appendfsync", "everysec"], "appendfsync everysec; set appendfsync always"),
        (["--appendonly", "no"], "appendonly no; set appendonly yes"),
        (["--no-appendfsync-on-rewrite", "yes"], "set no-appendfsync-on-rewrite no"),
        (["--maxmemory-policy", "allkeys-lru"], "set maxmemory-policy noeviction"),
        ([*MANAGED, "-config"], "does not show its configuration"),
        (["--appendonly", "no", *MANAGED, "-config"], "keeps no append-only file"),
        ([*MANAGED, "-config", "-info"], "does not show its configuration"),
    ],
)
def test_a_server_that_may_lose_writes_is_named_with_the_remedy(
    options: list[str], remark: str
) -> None:
    with server(binary(INSTALLED[0]), *options) as found, closing(Store(found.url)) as store:
        judged = durability(store.nodes())
    assert not judged.proven
    assert remark in judged.remark


@pytest.mark.parametrize("name", CLUSTERED)
def test_every_node_of_a_cluster_must_be_durable(name: str) -> None:
    with cluster(binary(name)) as found, closing(Store(found.url)) as store:
        assert durability(store.nodes()).proven
        found.ask(2, "CONFIG SET", "appendfsync", "no")
        assert "appendfsync no" in durability(store.nodes()).remark
