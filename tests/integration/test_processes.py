"""The supervisor of the local stack, with real processes."""

import signal
import sys
from pathlib import Path

import pytest

from clipcurate.cli.local import state_held
from clipcurate.cli.processes import Child, Supervisor, wait_for_file
from clipcurate.errors import ConflictError, UnavailableError
from tests.waiting import wait_until

WRITER = """
import signal, sys, time
def end(*_):
    open(sys.argv[1], "a").write(sys.argv[2] + "\\n")
    sys.exit()
signal.signal(signal.SIGTERM, end)
open(sys.argv[1] + sys.argv[2], "a").write("x")
time.sleep(60)
"""


def writer(tmp_path: Path, name: str) -> Child:
    command = [sys.executable, "-S", "-c", WRITER, str(tmp_path / "ends"), name]
    return Child(name, command, {}, tmp_path / f"{name}.log")


def test_children_stop_in_reverse_order_also_when_one_was_restarted(tmp_path: Path) -> None:
    supervisor = Supervisor()
    children = [writer(tmp_path, name) for name in ("first", "second", "third")]
    for child in children:
        supervisor.start(child)
        wait_until((tmp_path / f"ends{child.name}").exists, 20, f"{child.name} starts")
    first = children[0].process
    assert first is not None
    first.send_signal(signal.SIGKILL)
    wait_until(lambda: (tmp_path / "endsfirst").read_text() == "xx", 20, "first starts again")
    supervisor.stop()
    assert (tmp_path / "ends").read_text().split() == ["third", "second", "first"]


def test_a_child_that_does_not_start_is_said_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such luck')"]
    child = Child("doomed", command, {}, tmp_path / "doomed.log")
    child.start()
    with pytest.raises(UnavailableError, match="no such luck"):
        wait_for_file(tmp_path / "never", child, 20)


def test_a_state_folder_has_one_user(tmp_path: Path) -> None:
    with state_held(tmp_path / "state"), pytest.raises(ConflictError, match="another clipcurate"):
        with state_held(tmp_path / "state"):
            pass
    with state_held(tmp_path / "state"):
        pass


def test_a_burst_of_signals_ends_a_service_in_order(tmp_path: Path) -> None:
    ready = tmp_path / "address"
    environment = {"CLIPCURATE_MATCHER_READY_FILE": str(ready)}
    command = [sys.executable, "-m", "services.matcher"]
    child = Child("matcher", command, environment, tmp_path / "matcher.log")
    child.start()
    wait_for_file(ready, child, 60)
    process = child.process
    assert process is not None
    for _ in range(100):
        process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0, child.tail()
