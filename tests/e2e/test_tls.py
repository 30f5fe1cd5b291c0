"""The whole job with mutual TLS on every hop, Redis's rights included: no caller lacks any."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from clipcurate.cli.processes import Child, Supervisor, wait_for_file
from clipcurate.rpc.clients import LedgerClient
from clipcurate.rpc.settings import SecuritySettings
from tests.certificates import FILES
from tests.conftest import CommandLine
from tests.deploy.compose import hashes
from tests.guarded_redis import REDIS, RIGHTS, Guarded, guarded_redis
from tests.pools import make_pool, write_metadata

WANTED = ("--dedup", "url", "--emit", "matched", "--emit", "balanced", "--t", 5)

pytestmark = pytest.mark.skipif(not REDIS, reason="no redis-server of a system package, with TLS")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Guarded]:
    with guarded_redis(tmp_path / "redis") as found:
        found.user(">its secret", *RIGHTS.split())
        for name in ("matcher", "sampler", "client"):
            found.authority.issue(name)
        yield found


def tls_of(guarded: Guarded, name: str) -> dict[str, str]:
    folder = guarded.authority.folder / name
    return {f"CLIPCURATE_TLS_{key.upper()}": str(folder / file) for key, file in FILES.items()}


@contextmanager
def services(guarded: Guarded, folder: Path) -> Iterator[str]:
    """A counter, a matcher and a sampler, each with its own certificate: the counter's address."""
    redis = {"URL": guarded.url, "USER": "counter", "PASSWORD": "its secret"}
    redis |= {f"TLS_{name.upper()}": str(path) for name, path in guarded.files.items()}
    supervisor = Supervisor()

    def start(name: str, settings: dict[str, str]) -> str:
        ready = folder / f"{name}.address"
        settings |= {"LISTEN": "localhost:0", "READY_FILE": str(ready)}
        own = {f"CLIPCURATE_{name.upper()}_{key}": value for key, value in settings.items()}
        command = [sys.executable, "-m", f"services.{name}"]
        child = Child(name, command, own | tls_of(guarded, name), folder / f"{name}.log")
        supervisor.start(child)
        return wait_for_file(ready, child, 60)

    try:
        address = start("counter", {f"REDIS_{key}": value for key, value in redis.items()})
        for name in ("matcher", "sampler"):
            start(name, {"COUNTER": address})
        yield address
    finally:
        supervisor.stop()


def test_each_may_do_its_part(
    guarded: Guarded,
    tmp_path: Path,
    command_line: CommandLine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And a local run takes no notice of the user's certificates."""
    for name, value in tls_of(guarded, "client").items():
        monkeypatch.setenv(name, value)
    make_pool(tmp_path / "pool", 200)
    metadata = write_metadata(tmp_path / "metadata.json")
    inputs = ("--pool", tmp_path / "pool", "--metadata", metadata, *WANTED, "--output")
    with services(guarded, tmp_path) as address:
        there = ("--server", address)
        done = command_line("submit", "--watch", *inputs, tmp_path / "out", *there)
        assert done.returncode == 0, done.stderr
        with LedgerClient(address, SecuritySettings()) as ledger:
            (run,) = ledger.list_runs().runs
            assert [found.run_id for found in ledger.watch_run(run.run_id)] == [run.run_id]
        for command in ("recount", "archive"):
            done = command_line(command, run.run_id, *there)
            assert done.returncode == 0, f"{command}: {done.stderr}"
    for name in ("counter", "matcher", "sampler"):
        assert "may not call" not in (tmp_path / f"{name}.log").read_text()
    alone = command_line("run", *inputs, tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    assert len(hashes(tmp_path / "alone")) == 2
    assert hashes(tmp_path / "out") == hashes(tmp_path / "alone")
