"""A machine's share of a training: `python -m clipcurate.training.launch.agent TORCHRUN-ARGUMENTS`.

torchrun itself, which starts the ranks again when one has died, on all machines together, with what
a launcher needs beside that:

- the ranks have time to save a checkpoint after SIGTERM: `SAVE_SECONDS` of the environment;
- an error that would come again (`HOPELESS`) is not tried again, and the exit status tells it from
  the rest;
- it ends with the process that started it;
- in a pod of an Indexed Job, whether our launcher, JobSet or Kubeflow's Trainer made it, index 0 is
  the meeting place, and the others wait until it is there.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from torch.distributed import run as torchrun
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher import api as launcher

from clipcurate.errors import ClipcurateError, UnavailableError
from clipcurate.training.launch.contract import (
    ADDRESS,
    HOPELESS,
    INDEX,
    KUBEFLOW_MEETING_PLACE,
    MEETING_PLACE,
    NAME,
    SAVE_SECONDS,
    UNFINISHED,
)

# How long the pods of one training may lie apart: a queue lets them in one by one.
ARRIVAL_SECONDS = 3600
# torchrun would share one store among all attempts, with the addresses of dead ranks in it, to
# which gloo's new ranks then connect. With this each attempt has a store of its own.
STORE_PER_ATTEMPT = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
_PAUSE = 1.0


@dataclass(frozen=True)
class MeetingPlace:
    """Where the agents of all machines find each other."""

    host: str
    port: int
    here: bool

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "MeetingPlace | None":
        """Return the one that the environment names; None if there is just this machine."""
        kubeflow = ":".join(environment.get(name, "") for name in KUBEFLOW_MEETING_PLACE)
        host, _, port = (environment.get(MEETING_PLACE) or kubeflow).rpartition(":")
        if not host:
            return None
        return cls(host, int(port), environment[INDEX] == "0")

    def arguments(self, name: str, local_address: str) -> list[str]:
        """Return torchrun's arguments for meeting there."""
        conf = f"is_host={str(self.here).lower()},join_timeout={ARRIVAL_SECONDS}"
        endpoint = f"{self.host}:{self.port}"
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--rdzv-id", name]
        return [*meeting, "--rdzv-conf", conf, "--local-addr", local_address]

    def await_host(self, seconds: float = ARRIVAL_SECONDS) -> None:
        """Wait until index 0 has a name and listens. Raises UnavailableError: it never did."""
        deadline = time.monotonic() + seconds
        while not self.here:
            try:
                socket.create_connection((self.host, self.port), timeout=5).close()
            except OSError as error:
                if time.monotonic() > deadline:
                    raise UnavailableError(f"{self.host}:{self.port}: {error}") from error
                time.sleep(_PAUSE)
            else:
                return


class Agent(LocalElasticAgent):
    """torchrun's agent, except that it gives up, for all machines, where a rank says `HOPELESS`."""

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        if HOPELESS in {failure.exitcode for failure in result.failures.values()}:
            self._remaining_restarts = 0
        return result


def main(arguments: list[str], environment: Mapping[str, str]) -> int:
    """Run this machine's ranks to their end; return the exit status."""
    launcher.LocalElasticAgent = Agent  # type: ignore[attr-defined] # torchrun has no setting for it
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    meeting = MeetingPlace.of(environment)
    options = ["--shutdown-timeout", environment.get(SAVE_SECONDS, "600")]
    try:
        if meeting:
            meeting.await_host()
            options += meeting.arguments(environment[NAME], environment[ADDRESS])
        torchrun.main([*options, *arguments])
    except ChildFailedError as failed:
        return status_of({failure.exitcode for failure in failed.failures.values()})
    except SignalException:
        return UNFINISHED
    return 0


def status_of(ranks: set[int]) -> int:
    """Return the status of an agent that has given up, from those of its ranks."""
    if HOPELESS in ranks:
        return HOPELESS
    return UNFINISHED if ranks == {UNFINISHED} else 1


def _stop(number: int, _: object) -> None:
    """Raise what torchrun's own handler raises, which is there only while ranks run.

    Any other exception would make torchrun close the meeting place for all machines.
    """
    raise SignalException(f"signal {number}", signal.Signals(number))


def _end_with_parent() -> None:
    """Stop like after SIGTERM when the process that started this one has gone."""
    parent = os.getppid()

    def follow() -> None:
        while os.getppid() == parent:
            time.sleep(_PAUSE)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, name="parent", daemon=True).start()


if __name__ == "__main__":
    os.environ.update(STORE_PER_ATTEMPT)
    _end_with_parent()
    try:
        sys.exit(main(sys.argv[1:], os.environ))
    except ClipcurateError as failure:
        sys.exit(f"error: {failure}")
