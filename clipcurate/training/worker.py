"""One process of a training: `python -m clipcurate.training.worker JOB`, also under torchrun.

JOB is `TrainJob.to_json`. Rank 0 prints progress to stderr, and the output folder to stdout when
the training has finished. SIGTERM and SIGINT save a checkpoint and end it with status 0; so does
the end of the process that started this one.
"""

import logging
import os
import signal
import sys
import threading

from clipcurate.errors import ClipcurateError
from clipcurate.training.launch import TrainJob
from clipcurate.training.run import Progress, train
from clipcurate.training.world import World, joined


def main(text: str) -> None:
    """Train as this process's rank. Raises ClipcurateError."""
    job, parent, stopping = TrainJob.from_json(text), os.getppid(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    with joined() as world:
        summary = train(
            job.dataset_url,
            job.config,
            job.output_url,
            job.eval_url,
            on_progress=_say if world.is_main else _keep_quiet,
            should_stop=lambda: stopping.is_set() or os.getppid() != parent,
            world=world,
        )
        _tell_end(world, job, summary["finished"], summary["step"])


def _say(progress: Progress) -> None:
    print(
        f"step {progress.step}/{progress.total_steps}  loss {progress.loss:.4f}  "
        f"lr {progress.lr:.3g}  scale {progress.logit_scale:.2f}  "
        f"gradient {progress.grad_norm:.3g}  {progress.pairs_per_second:,.0f} pairs/s",
        file=sys.stderr,
        flush=True,
    )


def _keep_quiet(_: Progress) -> None:
    return


def _tell_end(world: World, job: TrainJob, finished: bool, step: int) -> None:
    if world.is_main and finished:
        print(job.output_url, flush=True)
    elif world.is_main:
        print(f"stopped after step {step}; the same command goes on", file=sys.stderr)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    try:
        main(sys.argv[1])
    except ClipcurateError as failure:
        sys.exit(f"error: {failure}")
