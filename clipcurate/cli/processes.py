"""Child processes of the local stack: started, watched, started again, stopped."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from clipcurate.errors import UnavailableError

log = logging.getLogger(__name__)

RESTART_SECONDS = (0.2, 10.0)
"""Shortest and longest pause before a process that died is started again."""
STEADY_SECONDS = 30.0
"""After a process has lived so long, its pause is the shortest again."""
_MOST_DOUBLINGS = 10
_LIBC = ctypes.CDLL(None)  # opened here: not after a fork beside gRPC's threads
_PR_SET_PDEATHSIG = 1
_LOG_LINES = 5


@dataclass
class Child:
    """One process that should be running.

    Attributes:
        name: for people and for its log file.
        command: the command line.
        environment: added to this process's environment.
        log_path: where its output goes.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log_path: Path
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    started: float = field(default=0.0)

    def start(self) -> None:
        """Start the process; its output is appended to its log."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as output:
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509
            )
        self.started = time.monotonic()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process is not None and self.process.poll() is None

    def stop(self, seconds: float) -> None:
        """Ask it to end, and end it if it does not."""
        if self.process is None or not self.alive:
            return
        self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            log.warning("%s did not stop in %s s; killed", self.name, seconds)
            self.process.kill()
            self.process.wait()

    def tail(self) -> str:
        """Return the end of its log."""
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return "\n".join(text.splitlines()[-_LOG_LINES:])


class Supervisor:
    """Keeps children running until `stop`."""

    def __init__(self) -> None:
        self.children: list[Child] = []
        self._stopping = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self, child: Child) -> None:
        """Start a child and watch it from now on."""
        child.start()
        self.children.append(child)
        if not self._thread.is_alive():
            self._thread.start()

    def stop(self, seconds: float = 20.0) -> None:
        """Stop all children, the last started first.

        The watching thread ends last: the kernel signals children when the thread that started
        them is gone (see `_die_with_parent`), which would upset the order.
        """
        self._stopping.set()
        for child in reversed(self.children):
            child.stop(seconds)
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(0.1):
            for child in self.children:
                if not child.alive:
                    self._restart(child)
        self._stopped.wait()

    def _restart(self, child: Child) -> None:
        assert child.process is not None
        lived = time.monotonic() - child.started
        child.restarts = 0 if lived > STEADY_SECONDS else child.restarts + 1
        log.warning("%s ended with %s; starting it again", child.name, child.process.returncode)
        doublings = min(max(child.restarts - 1, 0), _MOST_DOUBLINGS)
        if self._stopping.wait(min(RESTART_SECONDS[0] * 2**doublings, RESTART_SECONDS[1])):
            return
        try:
            child.start()
        except OSError as error:
            log.error("%s cannot be started: %s", child.name, error)  # noqa: TRY400


def wait_for_file(path: Path, child: Child, seconds: float) -> str:
    """Return a file's text once a child has written it.

    Raises:
        UnavailableError: the child ended, or time is up; the message ends with its log.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if path.exists() and (text := path.read_text()):
            return text
        if not child.alive:
            break
        time.sleep(0.02)
    raise UnavailableError(
        f"{child.name} did not start; the end of {child.log_path}:\n{child.tail()}"
    )


def _die_with_parent() -> None:
    """Have the kernel end the child when the thread that started it ends, and so this process."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
