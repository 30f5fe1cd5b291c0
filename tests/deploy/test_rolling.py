"""Every container is restarted in turn, under clients and work: no call fails, the same hashes."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CommandLine
from tests.deploy import callers
from tests.deploy.compose import (
    Compose,
    engine,
    hashes,
    healthy,
    open_to_all,
    require_engine,
)
from tests.pools import make_parquet_pool, write_metadata
from tests.waiting import wait_until

ROLLED = ("matcher", "sampler", "trainer", "counter", "redis")
POOLS, FILES, ROWS = 8, 15, 60
"""Pools that go through meanwhile, one after the other: 90 tasks each."""
WANTED = ("--emit", "matched", "--emit", "balanced", "--t", "40", "--task-rows", "1")
OVERLAY = """
services:
  matcher:
    environment:
      CLIPCURATE_MATCHER_METADATA: '["/data/metadata.json"]'
"""

pytestmark = pytest.mark.timeout(1500)  # builds all images, where nobody has yet


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder that is /data in all containers: pools, metadata, and the callers."""
    folder = tmp_path / "data"
    make_parquet_pool(folder / "pool-done", 2, ROWS)
    for number in range(POOLS):
        make_parquet_pool(folder / f"pool-{number}", FILES, ROWS, seed=number + 1)
    write_metadata(folder / "metadata.json")
    shutil.copy(callers.__file__, folder / "callers.py")
    open_to_all(folder)
    return folder


@pytest.fixture
def compose(data: Path, tmp_path: Path) -> Iterator[Compose]:
    """The services, two of each that may have several; matchers hold metadata for clients."""
    require_engine()
    overlay = tmp_path / "overlay.yml"
    overlay.write_text(OVERLAY)
    scale = ("--scale", "matcher=2", "--scale", "sampler=2")
    with Compose(data, (overlay,)).running(*scale) as compose:
        yield compose


def submit(pool: str) -> list[str]:
    command = ("run", "--rm", "-T", "client", "submit", "--watch", "--pool", f"/data/{pool}")
    metadata = ("--metadata", "/data/metadata.json")
    return [*command, *metadata, "--output", f"/data/out-{pool}", *WANTED]


class Pools:
    """Pools handed in one after the other, by a command that waits for the end of each."""

    def __init__(self, compose: Compose) -> None:
        self._compose = compose
        self.begun = 0
        self._begin()

    def go_on(self) -> None:
        """Hand in the next one, if the last one is done."""
        if self._waiting.poll() is not None:
            self.finish()
            self._begin()

    def finish(self) -> None:
        """Wait for the end of the last one, which must be a good one."""
        output, _ = self._waiting.communicate(timeout=300)
        assert self._waiting.returncode == 0, output

    def _begin(self) -> None:
        self._waiting = self._compose.start(*submit(f"pool-{self.begun}"))
        self.begun += 1


@contextmanager
def under_load(compose: Compose, data: Path) -> Iterator[list[dict[str, Any]]]:
    """Have clients call throughout; afterwards the list says what each of them met."""
    (run,) = (data / "out-pool-done" / "runs").iterdir()
    command = ("run", "--rm", "-T", "--entrypoint", "python", "client")
    files = ("/data/stop", "/data/found.json")
    process = compose.start(*command, "/data/callers.py", run.name, *files)
    found: list[dict[str, Any]] = []
    try:
        yield found
    finally:
        (data / "stop").touch()
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output[-3000:]
    found += json.loads((data / "found.json").read_text())


def restart(container: str) -> None:
    """Restart as operators do: SIGTERM, and SIGKILL only after the time that compose grants."""
    engine("stop", "--time", "30", container)
    engine("start", container)
    wait_until(lambda: healthy(container), 90, f"{container[:12]} is healthy")


def test_no_call_fails_and_no_byte_differs_while_everything_is_restarted(
    compose: Compose, data: Path, tmp_path: Path, command_line: CommandLine
) -> None:
    compose(*submit("pool-done"))
    with under_load(compose, data) as found:
        pools = Pools(compose)
        for service in ROLLED:
            for container in compose.containers(service):
                restart(container)
                pools.go_on()
        pools.finish()
    print(json.dumps(found))
    assert [caller for caller in found if caller["failures"]] == []
    assert all(caller["calls"] > 10 for caller in found), found
    for number in range(pools.begun):
        words = ("run", "--pool", data / f"pool-{number}", "--metadata", data / "metadata.json")
        output = tmp_path / f"out-{number}"
        done = command_line(*words, "--output", output, *WANTED)
        assert done.returncode == 0, done.stderr
        assert hashes(data / f"out-pool-{number}") == hashes(output)
