"""One process of a training: `python -m clipcurate.training.worker JOB`, also under torchrun.

JOB is `TrainJob.to_json`. Rank 0 tells of progress on stderr, in the output folder and to
TensorBoard, and prints the folder to stdout when the training has finished. SIGTERM and SIGINT save
a checkpoint and end it with status `UNFINISHED`, on all ranks together; so does the end of the
process that started this one. An error that would come again ends it with status `HOPELESS`. Why a
rank failed is left in the output folder.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Any

import torch

from clipcurate.errors import ClipcurateError, StorageError, TrainingError, UnavailableError
from clipcurate.training import progress as told
from clipcurate.training.events import Events
from clipcurate.training.launch import TrainJob
from clipcurate.training.launch.contract import HOPELESS, UNFINISHED
from clipcurate.training.run import Progress, ignore, train
from clipcurate.training.world import World, joined


class Reporter:
    """Tells of a training's progress, where this is the rank that does."""

    def __init__(self, file: told.ProgressFile, events: Events) -> None:
        self._file = file
        self._events = events
        self._last: dict[str, Any] = {}

    def tell(self, progress: Progress) -> None:
        """Tell of a step."""
        print(_in_words(progress), file=sys.stderr, flush=True)
        self._last = asdict(progress)
        if not progress.mfu:
            del self._last["mfu"]  # not known, rather than none
        self._file.tell(self._last)
        self._events.add_step(self._last)

    def tell_evaluation(self, step: int, figures: dict[str, Any]) -> None:
        """Tell of an evaluation after a step."""
        self._events.add_evaluation(step, figures)

    def tell_end(self, summary: dict[str, Any]) -> None:
        """Tell of the last evaluation of a training that has finished, unless it had before."""
        if self._last:
            self._file.tell({**self._last, "evaluation": summary["evaluation"]})


def main(job: TrainJob) -> int:
    """Train, and where that fails leave word of why; return the exit status.

    Raises what is no error of ours, as it came.
    """
    try:
        return _train(job)
    except Exception as error:
        failure = _explained(error)
        told.tell_failure(job.output_url, failure)
        if not isinstance(failure, ClipcurateError):
            raise
        print(f"error: {failure}", file=sys.stderr)
        return _status_of(failure)


def _train(job: TrainJob) -> int:
    """Train as this process's rank; return the exit status."""
    parent, stopping = os.getppid(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with joined() as world, _reporter(world, job) as reporter:
        summary = train(
            job.dataset_url,
            job.config,
            job.output_url,
            job.eval_url,
            on_progress=reporter.tell if reporter else ignore,
            on_evaluation=reporter.tell_evaluation if reporter else ignore,
            should_stop=lambda: stopping.is_set() or os.getppid() != parent,
            world=world,
        )
        if reporter and summary["finished"]:
            reporter.tell_end(summary)
            print(job.output_url, flush=True)
        elif reporter:
            print(f"stopped after step {summary['step']}; starting again goes on", file=sys.stderr)
    return 0 if summary["finished"] else UNFINISHED


@contextmanager
def _reporter(world: World, job: TrainJob) -> Iterator[Reporter | None]:
    if not world.is_main:
        yield None
        return
    told.forget_failure(job.output_url)
    with told.ProgressFile(job.output_url) as file, closing(Events(job.output_url)) as events:
        yield Reporter(file, events)


def _in_words(progress: Progress) -> str:
    return (
        f"step {progress.step}/{progress.total_steps}  loss {progress.loss:.4f}  "
        f"lr {progress.lr:.3g}  scale {progress.logit_scale:.2f}  "
        f"gradient {progress.grad_norm:.3g}  {progress.pairs_per_second:,.0f} pairs/s"
    )


def _explained(error: Exception) -> Exception:
    """Return the error, with the remedy where a device's memory is too small."""
    if not isinstance(error, torch.OutOfMemoryError):
        return error
    return TrainingError(
        f"{error}; train again with a smaller micro_batch, or with activation_checkpointing=true"
    )


def _status_of(error: ClipcurateError) -> int:
    """Say whether storage or a service may just be away, or whether the error would come again."""
    return 1 if isinstance(error, StorageError | UnavailableError) else HOPELESS


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    sys.exit(main(TrainJob.from_json(sys.argv[1])))
