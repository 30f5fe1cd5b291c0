"""What a launcher is given, and what it gives back."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Protocol

from clipcurate.errors import InvalidInputError
from clipcurate.training.config import TrainConfig, config_for
from clipcurate.training.mixing import Datasets, Source


@dataclass(frozen=True)
class TrainJob:
    """A training to start: on what, how, where to, evaluated on what ("": nothing of its own).

    `dataset_url` is the folder of a dataset, or several datasets to mix by weight.
    `training_id` names it where names are needed; see `clipcurate.training.identity`.
    """

    dataset_url: Datasets
    preset: str
    output_url: str
    overrides: dict[str, str] = field(default_factory=dict)
    eval_url: str = ""
    training_id: str = ""

    @property
    def config(self) -> TrainConfig:
        """All settings. Raises InvalidInputError."""
        return config_for(self.preset, self.overrides)

    def to_json(self) -> str:
        """Return the job as one argument of a command line; equal jobs give equal texts."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "TrainJob":
        """Return what `to_json` wrote."""
        fields = json.loads(text)
        if not isinstance(fields["dataset_url"], str):
            fields["dataset_url"] = tuple(Source(**one) for one in fields["dataset_url"])
        return cls(**fields)


class Running(Protocol):
    """A training that was started. One thread waits; any may stop it."""

    @property
    def note(self) -> str:
        """What holds it up, in words; empty if nothing is known to."""

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it has ended, finished or stopped; say whether it has.

        Args:
            seconds: how long to wait about; None for as long as it takes.

        Raises:
            TrainingError: it has failed.
        """

    def stop(self) -> None:
        """Ask it to save a checkpoint and end; `wait` says when it has."""

    def leave(self) -> bool:
        """Follow it no more, if it goes on without this process; say whether it does."""


class Launcher(Protocol):
    """Starts trainings somewhere."""

    @property
    def at_once(self) -> int:
        """How many trainings have room side by side."""

    @property
    def outlives(self) -> bool:
        """Whether trainings go on when the process that started them has ended."""

    def start(self, job: TrainJob) -> Running:
        """Start a training, go on with it from its newest checkpoint, or find it running."""

    def started(self) -> Iterator[tuple[TrainJob, Running]]:
        """Yield the trainings that were started earlier, by whomever, oldest first.

        Those that go on, and those that have ended as long as that is remembered.
        """


def refuse_uneven(job: TrainJob, ranks: int) -> None:
    """Raise InvalidInputError where so many ranks cannot share the job's lanes evenly."""
    data = job.config.data
    if data.lanes % ranks:
        raise InvalidInputError(
            f"{ranks} processes cannot share {data.lanes} lanes of batches of {data.batch_size} "
            "evenly; choose lanes that they divide"
        )
