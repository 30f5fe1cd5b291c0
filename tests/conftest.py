"""Fixtures that more than one folder of tests needs."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from clipcurate.cli.local import redis_binary
from clipcurate.matching import warm_up

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"

# Speed is not tested, and the first call of a kernel compiles it.
settings.register_profile("clipcurate", deadline=None)
settings.load_profile("clipcurate")

# A shell that starts `make test` in the background has it ignore Ctrl-C; what tests start, inherits
# that, and would ignore it too.
signal.signal(signal.SIGINT, signal.default_int_handler)

CommandLine = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session", autouse=True)
def compiled_kernels() -> None:
    """Compile once, into numba's cache, what every matcher would compile when it starts."""
    warm_up()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real captions and images that do not travel with the project."""
    if not SHARED.is_dir():
        pytest.skip(f"the shared test data is not at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def command_line() -> CommandLine:
    """Run `clipcurate` as a user does, in a process of its own."""

    def run(*args: object, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "clipcurate.cli.app", *map(str, args)]
        return subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=300, check=False
        )

    return run


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real Redis on a private socket, durable as deployed."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        socket = Path(folder) / "redis.sock"
        command = [redis_binary(), "--port", "0", "--unixsocket", str(socket), "--dir", folder]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if "ready to accept connections" in line.lower():
                    break
            yield f"unix://{socket}"
            process.terminate()
            process.stdout.read()
