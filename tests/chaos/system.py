"""The whole system as real processes on loopback, with a proxy on every connection.

What dies is started again, as Kubernetes would; nothing else is mended.
"""

import contextlib
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import redis

from clipcurate.cli.local import redis_binary, serves
from clipcurate.cli.processes import Child, wait_for_file
from tests.chaos.disk import Disk
from tests.chaos.links import Links
from tests.ports import free_port

LEASE_SECONDS = 1.5
START_SECONDS = 300.0
"""The first start after an installation compiles the kernels."""
COUNTERS = ("counter-0", "counter-1")
WORKERS = ("matcher-0", "matcher-1", "sampler-0", "sampler-1")
RESTART_SECONDS = 0.2


class System:
    """Redis, two counters over it, two matchers and two samplers.

    Every matcher and sampler reaches both counters, and every counter Redis, through a link of its
    own, named `from>to`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.disks = {name: Disk.mounted(folder / name) for name in ("output", "redis")}
        self.redis_data = folder / "redis" / "data"
        self.links = Links()
        self.children: dict[str, Child] = {}
        self.addresses: dict[str, str] = {}
        self._held: set[str] = set()
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="restarts")

    def start(self) -> None:
        """Start everything; return when it is ready."""
        self.redis_data.mkdir()
        self.redis_port = free_port()
        command = [redis_binary(), "--port", str(self.redis_port), "--bind", "127.0.0.1"]
        command += ["--dir", str(self.redis_data), "--save", "", "--daemonize", "no"]
        command += ["--appendonly", "yes", "--appendfsync", "always"]
        self._add("redis", command, {})
        for name in COUNTERS:
            port = self.links.open(f"{name}>redis", self.redis_port)
            url = f"redis://127.0.0.1:{port}"
            lease = {"REDIS_URL": url, "LEASE_SECONDS": str(LEASE_SECONDS)}
            self._add_service(name, lease | {"REQUIRE_DURABLE": "true"})
        for name in WORKERS:
            ways = [
                self.links.open(f"{name}>{counter}", self.port(counter)) for counter in COUNTERS
            ]
            target = "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ways)
            self._add_service(name, {"COUNTER": target})
        for name in self.addresses:
            assert serves(self.addresses[name], START_SECONDS), self.children[name].tail()
        self._watcher.start()

    @property
    def counter(self) -> str:
        """Both counters, reached without a proxy: the operator's own connection."""
        return "ipv4:" + ",".join(self.addresses[name] for name in COUNTERS)

    def port(self, name: str) -> int:
        """Return the port that a service listens on."""
        return int(self.addresses[name].rpartition(":")[2])

    def redis(self) -> "redis.Redis":
        """Return the harness's own connection to Redis."""
        return redis.Redis("127.0.0.1", self.redis_port, socket_timeout=20)

    def pid(self, name: str) -> int:
        """Return the process id of a child."""
        process = self.children[name].process
        assert process is not None
        return process.pid

    def kill(self, name: str) -> None:
        """End a process with SIGKILL and wait until it is gone. It starts again by itself."""
        process = self.children[name].process
        assert process is not None
        process.kill()
        process.wait()

    @contextlib.contextmanager
    def down(self, name: str) -> Iterator[None]:
        """Keep a process dead while the block runs."""
        with self._lock:
            self._held.add(name)
        self.kill(name)
        try:
            yield
        finally:
            with self._lock:
                self._held.discard(name)

    @contextlib.contextmanager
    def stopped(self, name: str) -> Iterator[None]:
        """Suspend a process while the block runs."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def copy_redis(self, target: Path) -> None:
        """Copy Redis's files as they lie there at this moment."""
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.redis_data, target)

    def replace_redis(self, source: Path | None) -> None:
        """Have Redis come back with other files, or with none."""
        with self.down("redis"):
            for path in self.redis_data.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if source is not None:
                shutil.copytree(source, self.redis_data, dirs_exist_ok=True)

    def healthy(self) -> bool:
        """Say whether every process runs and says that it serves."""
        alive = all(child.alive for child in self.children.values())
        return alive and all(serves(address, 0.5) for address in self.addresses.values())

    def stop(self) -> None:
        """Stop all, the last started first."""
        self._stopping.set()
        for child in reversed(self.children.values()):
            child.stop(20)
        if self._watcher.is_alive():
            self._watcher.join()
        self.links.close()
        for disk in self.disks.values():
            disk.unmount()

    def _add(self, name: str, command: list[str], environment: dict[str, str]) -> Child:
        log_path = self.folder / "logs" / f"{name}.log"
        child = self.children[name] = Child(name, command, environment, log_path)
        child.start()
        return child

    def _add_service(self, name: str, settings: dict[str, str]) -> None:
        service = name.partition("-")[0]
        ready = self.folder / f"{name}.address"
        values = settings | {"LISTEN": "127.0.0.1:0", "READY_FILE": str(ready)}
        prefix = f"CLIPCURATE_{service.upper()}_"
        environment = {prefix + key: value for key, value in values.items()}
        child = self._add(name, [sys.executable, "-m", f"services.{service}"], environment)
        self.addresses[name] = wait_for_file(ready, child, START_SECONDS)
        child.environment = environment | {prefix + "LISTEN": self.addresses[name]}

    def _watch(self) -> None:
        while not self._stopping.wait(RESTART_SECONDS):
            for name, child in self.children.items():
                with self._lock:
                    if not child.alive and name not in self._held and not self._stopping.is_set():
                        child.start()
