"""The trainings of this process: one at a time has the device, the others wait their turn."""

import json
import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clipcurate import storage
from clipcurate.datasets import manifest as manifests
from clipcurate.datasets.images import image_files
from clipcurate.errors import ConflictError, NotFoundError, UnavailableError
from clipcurate.training.config import TrainConfig, config_for
from clipcurate.training.identity import training_id
from clipcurate.training.thinning import require_thinnable
from services.trainer.metrics import show

if TYPE_CHECKING:
    from clipcurate.training.run import Progress

log = logging.getLogger(__name__)

Summary = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What to train, on what, evaluated on what. Two equal requests are one training."""

    dataset_url: str
    preset: str
    overrides: Mapping[str, str] = field(default_factory=dict)
    eval_url: str = ""


@dataclass
class Job:
    """One training: its request, where it stands, and how it ended."""

    training_id: str
    request: Request
    config: TrainConfig
    output_url: str
    future: "Future[Summary]" = field(default_factory=Future)
    stopping: threading.Event = field(default_factory=threading.Event)
    progress: "Progress | None" = None

    @property
    def seen_pairs(self) -> int:
        """Pairs seen so far, those before a resumed checkpoint included."""
        return self.progress.seen_pairs if self.progress else 0

    @property
    def total_pairs(self) -> int:
        """Pairs that the whole training sees."""
        return self.config.total_steps * self.config.data.batch_size

    def advance(self, progress: "Progress") -> None:
        """Take note of a step."""
        self.progress = progress
        show(self.training_id, progress.step, progress.loss, progress.pairs_per_second)


class Jobs:
    """Starts, finds and stops trainings."""

    def __init__(self, torch_threads: int = 0) -> None:
        self._torch_threads = torch_threads
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._device = ThreadPoolExecutor(1, thread_name_prefix="training")

    def start(self, request: Request, parent_url: str) -> Job:
        """Start a training in a folder of its own below `parent_url`, or resume it there.

        A training that runs, or has finished there, is returned as it is.

        Raises:
            InvalidInputError: unknown preset or setting, or a dataset without images, or one that
                cannot be thinned as the settings want it.
            NotFoundError: no dataset there.
            ConflictError: it runs already, in another folder.
            UnavailableError: it is stopping just now.
        """
        config = config_for(request.preset, request.overrides)
        manifest = manifests.load(request.dataset_url)
        image_files(request.dataset_url, manifest)
        require_thinnable(request.dataset_url, manifest, config.data)
        number = training_id(manifest, config, request.eval_url)
        job = Job(number, request, config, storage.join(parent_url, number))
        with self._lock:
            return self._admit(job)

    def get(self, number: str) -> Job:
        """Return a training by id. Raises NotFoundError."""
        try:
            return self._jobs[number]
        except KeyError:
            raise NotFoundError(f"no training {number} on this server; see ListTrainings") from None

    def list(self) -> list[Job]:
        """Return all trainings, newest first."""
        with self._lock:
            return [*reversed(self._jobs.values())]

    def close(self) -> None:
        """Let every training save a checkpoint and stop; returns when they have."""
        for job in self.list():
            job.stopping.set()
        self._device.shutdown()

    def _admit(self, job: Job) -> Job:
        known = self._jobs.get(job.training_id)
        same_folder = known is not None and known.output_url == job.output_url
        if known is not None and not known.future.done() and not same_folder:
            raise ConflictError(
                f"training {job.training_id} runs in {known.output_url}; stop it there first"
            )
        if known is not None and known.stopping.is_set() and not known.future.done():
            raise UnavailableError(f"training {job.training_id} is stopping; start it again then")
        if known is not None and same_folder and not _may_start_again(known):
            return known
        self._jobs.pop(job.training_id, None)
        self._jobs[job.training_id] = job
        job.future = self._device.submit(self._train, job)
        job.future.add_done_callback(lambda future: _log_end(job, future))
        return job

    def _train(self, job: Job) -> Summary:
        if job.stopping.is_set():
            return {"finished": False}
        import torch

        from clipcurate.training.run import train

        if self._torch_threads:
            torch.set_num_threads(self._torch_threads)
        log.info("training", extra={"training": job.training_id, "output": job.output_url})
        return train(
            job.request.dataset_url,
            job.config,
            job.output_url,
            job.request.eval_url,
            on_progress=job.advance,
            should_stop=job.stopping.is_set,
        )


def _may_start_again(job: Job) -> bool:
    """Say whether a training ended without a result: it failed, or was stopped."""
    if not job.future.done():
        return False
    return job.future.exception() is not None or not job.future.result()["finished"]


def _log_end(job: Job, future: "Future[Summary]") -> None:
    error = future.exception()
    fields = {"training": job.training_id}
    if error is not None:
        log.error("training failed: %s", error, exc_info=error, extra=fields)
    else:
        log.info("training ended", extra=fields | {"summary": json.dumps(future.result())})
