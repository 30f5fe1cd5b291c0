"""Where a training runs: one face, whoever starts its processes. Needs no torch.

Locally: `clipcurate.training.worker` as a process of its own, or as many as torchrun starts.
"""

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from typing import Protocol

from clipcurate.errors import InvalidInputError, TrainingError
from clipcurate.training.config import TrainConfig, config_for

WORKER = "clipcurate.training.worker"


@dataclass(frozen=True)
class TrainJob:
    """A training to start: on what, how, where to, evaluated on what ("": nothing of its own)."""

    dataset_url: str
    preset: str
    output_url: str
    overrides: dict[str, str] = field(default_factory=dict)
    eval_url: str = ""

    @property
    def config(self) -> TrainConfig:
        """All settings. Raises InvalidInputError."""
        return config_for(self.preset, self.overrides)

    def to_json(self) -> str:
        """Return the job as one argument of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "TrainJob":
        """Return what `to_json` wrote."""
        return cls(**json.loads(text))


class Running(Protocol):
    """A training that was started."""

    def wait(self) -> None:
        """Return when its processes have ended, finished or stopped. Raises TrainingError."""

    def stop(self) -> None:
        """Ask it to save a checkpoint and end; `wait` returns when it has."""


class Launcher(Protocol):
    """Starts trainings somewhere."""

    def start(self, job: TrainJob) -> Running:
        """Start a training, or go on with it from its newest checkpoint."""


@dataclass(frozen=True)
class LocalLauncher:
    """Starts a training on this machine.

    `processes` share each batch, one per GPU where there are any. When one dies, all end.
    """

    processes: int = 1

    def start(self, job: TrainJob) -> "LocalTraining":
        """Start the processes. Raises InvalidInputError: they cannot share a batch evenly."""
        if job.config.data.batch_size % self.processes:
            raise InvalidInputError(
                f"{self.processes} processes cannot share a batch of {job.config.data.batch_size} "
                "evenly; choose a batch_size that they divide"
            )
        # A session of its own: Ctrl-C reaches this process alone, which then asks once.
        return LocalTraining(subprocess.Popen(self.command(job), start_new_session=True))

    def command(self, job: TrainJob) -> list[str]:
        """Return the command line that trains."""
        worker = ["-m", WORKER, job.to_json()]
        if self.processes == 1:
            return [sys.executable, *worker]
        torchrun = ["-m", "torch.distributed.run", "--standalone"]
        count = ["--nproc-per-node", str(self.processes)]
        return [sys.executable, *torchrun, *count, *worker]


class LocalTraining:
    """The processes of a training on this machine."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._stopping = False

    def wait(self) -> None:
        """Return when the processes have ended. Raises TrainingError: not as they should."""
        status = self.process.wait()
        if status and not self._stopping:
            raise TrainingError(
                f"the training's processes ended with status {status}; what went wrong is above; "
                "the same command goes on from the newest checkpoint"
            )

    def stop(self) -> None:
        """Ask the processes to save a checkpoint and end."""
        self._stopping = True
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGTERM)
