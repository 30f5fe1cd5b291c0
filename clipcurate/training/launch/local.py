"""Trainings as processes of this machine."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from clipcurate.errors import TrainingError
from clipcurate.training.launch.contract import AGENT, HOPELESS, WORKER
from clipcurate.training.launch.job import TrainJob, refuse_uneven


@dataclass(frozen=True)
class LocalLauncher:
    """Starts a training on this machine.

    Attributes:
        processes: how many share each batch, one per GPU where there are any.
        restarts: how often all are started again, from the newest checkpoint, when one of several
            has died. A single process is started again by the next `start`.
        environment: set for the processes beside what this one has.
    """

    processes: int = 1
    restarts: int = 3
    environment: Mapping[str, str] = field(default_factory=dict)

    at_once = 1
    outlives = False

    def start(self, job: TrainJob) -> "LocalTraining":
        """Start the processes. Raises InvalidInputError: they cannot share a batch evenly."""
        refuse_uneven(job, self.processes)
        # A session of its own: Ctrl-C reaches this process alone, which then asks once.
        process = subprocess.Popen(
            self.command(job), start_new_session=True, env={**os.environ, **self.environment}
        )
        return LocalTraining(process)

    def started(self) -> Iterator[tuple[TrainJob, "LocalTraining"]]:
        """Yield nothing: processes end with the one that started them."""
        yield from ()

    def command(self, job: TrainJob) -> list[str]:
        """Return the command line that trains."""
        if self.processes == 1:
            return [sys.executable, "-m", WORKER, job.to_json()]
        count = ["--nproc-per-node", str(self.processes), "--max-restarts", str(self.restarts)]
        return [sys.executable, "-m", AGENT, "--standalone", *count, "-m", WORKER, job.to_json()]


class LocalTraining:
    """The processes of a training on this machine."""

    note = ""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._stopping = False

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the processes have ended; say whether they have.

        Raises:
            TrainingError: they did not end as they should.
        """
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        if status and not self._stopping:
            raise TrainingError(
                f"the training's processes ended with status {status}; their output says more; "
                f"{_advice(status)}"
            )
        return True

    def leave(self) -> bool:
        """Return False: the processes end with this one."""
        return False

    def stop(self) -> None:
        """Ask the processes to save a checkpoint and end."""
        self._stopping = True
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)


def _advice(status: int) -> str:
    if status == HOPELESS:
        return "the same error would come again: change what it names before starting again"
    return "starting it again goes on from the newest checkpoint"
