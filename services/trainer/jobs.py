"""The trainings of this service: started through a launcher, followed by what they write."""

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any

from clipcurate import storage
from clipcurate.datasets import manifest as manifests
from clipcurate.datasets.images import image_files
from clipcurate.datasets.manifest import Manifest
from clipcurate.errors import (
    ConflictError,
    NotFoundError,
    StorageError,
    TrainingError,
    UnavailableError,
)
from clipcurate.training import progress
from clipcurate.training.config import TrainConfig, config_for
from clipcurate.training.evaluable import require_something
from clipcurate.training.identity import training_id
from clipcurate.training.launch import Launcher, Running, TrainJob
from clipcurate.training.mixing import Datasets, sources_of
from clipcurate.training.progress import Standing
from clipcurate.training.thinning import require_thinnable
from services.trainer import metrics

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5
"""How often a training's progress is read, and how soon a request to stop is passed on."""

START_SECONDS = 2.0
"""Pause between attempts to start a training while that is not possible."""

Outcome = dict[str, Any]
"""The summary of a finished training; otherwise just `{"finished": False}`."""


@dataclass(frozen=True)
class Request:
    """What to train, on what, evaluated on what. Two equal requests are one training."""

    dataset_url: Datasets
    preset: str
    overrides: Mapping[str, str] = field(default_factory=dict)
    eval_url: str = ""


@dataclass
class Job:
    """One training: what was started, where it stands, and how it ended.

    `running` is the training once it was started, by this service or another one; until then it
    waits. `left` says that this service has let go of it while it runs on. `restarts` counts how
    often it was seen to go back to a checkpoint.
    """

    what: TrainJob
    running: Running | None = None
    future: "Future[Outcome]" = field(default_factory=Future)
    stopping: threading.Event = field(default_factory=threading.Event)
    standing: Standing | None = None
    note: str = "waits for its turn"
    left: bool = False
    restarts: int = 0

    @property
    def training_id(self) -> str:
        """Hash of dataset and settings."""
        return self.what.training_id

    @property
    def seen_pairs(self) -> int:
        """Pairs seen so far, those before a resumed checkpoint included."""
        return self.standing.seen_pairs if self.standing else 0

    @property
    def total_pairs(self) -> int:
        """Pairs that the whole training sees."""
        config = self.what.config
        return config.total_steps * config.data.batch_size

    @property
    def error(self) -> BaseException | None:
        """Why it failed, once it has ended; None if it did not."""
        return None if self.future.cancelled() else self.future.exception()

    @property
    def outcome(self) -> Outcome:
        """How it ended, once it has. Raises ClipcurateError: why it failed."""
        return {"finished": False} if self.future.cancelled() else self.future.result()

    def stop(self, seconds: float | None = None) -> None:
        """Stop it: at once while it waits to be started, else when it has saved a checkpoint.

        Args:
            seconds: how long to wait for that; None for as long as it takes.
        """
        self.stopping.set()
        if self.running is not None or not self.future.cancel():
            wait([self.future], timeout=seconds)

    def look(self, running: Running) -> None:
        """Take note of where the training stands; what cannot be read now is read next time."""
        self.note = running.note
        try:
            standing = progress.standing(self.what.output_url)
        except StorageError as error:
            self.note = str(error)
            return
        if standing and standing != self.standing:
            self.restarts += self.standing is not None and standing.step < self.standing.step
            self.standing = standing
            steps, eval_set = self.what.config.total_steps, self.what.eval_url.rpartition("/")[2]
            metrics.show(self.training_id, standing, steps, self.restarts, eval_set)


class Jobs:
    """Starts, finds and stops trainings."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._followers = ThreadPoolExecutor(launcher.at_once, thread_name_prefix="training")

    def adopt(self) -> None:
        """Know the trainings that another service started: how they go on, or have ended."""
        for what, running in self._launcher.started():
            with self._lock:
                log.info("found", extra={"training": what.training_id, "output": what.output_url})
                self._admit(Job(what, running))

    def start(self, request: Request, parent_url: str) -> Job:
        """Start a training in a folder of its own below `parent_url`, or resume it there.

        A training that runs, or has finished there, is returned as it is.

        Raises:
            InvalidInputError: unknown preset or setting, or a dataset without images, or one that
                cannot be thinned as the settings want it, or weights that are none to mix by; or
                nothing to evaluate on.
            NotFoundError: no dataset there.
            ConflictError: it runs already, in another folder.
            UnavailableError: it is stopping just now.
        """
        config = config_for(request.preset, request.overrides)
        datasets = [
            (_trainable(source.url, config), source.weight)
            for source in sources_of(request.dataset_url)
        ]
        number = training_id(datasets, config, request.eval_url)
        output = storage.join(parent_url, number)
        if request.eval_url and progress.standing(output) is None:
            require_something(request.eval_url)
        settings = dict(request.overrides)
        what = TrainJob(
            request.dataset_url, request.preset, output, settings, request.eval_url, number
        )
        with self._lock:
            return self._admit(Job(what))

    def get(self, number: str) -> Job:
        """Return a training by id. Raises NotFoundError."""
        try:
            return self._jobs[number]
        except KeyError:
            raise NotFoundError(
                f"no training {number} on this server; see ListTrainings; StartTraining with the "
                "same request returns one that has finished, and goes on with any other"
            ) from None

    def list(self) -> list[Job]:
        """Return all trainings, newest first."""
        with self._lock:
            return [*reversed(self._jobs.values())]

    def close(self) -> None:
        """Let trainings that end with this process save a checkpoint; returns when they have.

        Those that outlive it are left alone.
        """
        self._closing.set()
        self._followers.shutdown()

    def _admit(self, job: Job) -> Job:
        known = self._jobs.get(job.training_id)
        same_folder = known is not None and known.what.output_url == job.what.output_url
        if known is not None and not known.future.done() and not same_folder:
            raise ConflictError(
                f"training {job.training_id} runs in {known.what.output_url}; stop it there first"
            )
        if known is not None and known.stopping.is_set() and not known.future.done():
            raise UnavailableError(f"training {job.training_id} is stopping; start it again then")
        if known is not None and same_folder and not _may_start_again(known):
            return known
        job.future = self._followers.submit(self._follow, job)
        job.future.add_done_callback(lambda _: _log_end(job))
        self._jobs.pop(job.training_id, None)
        self._jobs[job.training_id] = job
        return job

    def _follow(self, job: Job) -> Outcome:
        """Run a training to its end. Raises ClipcurateError: why it failed."""
        if self._outcome(job)["finished"]:
            return self._outcome(job)
        try:
            job.running = job.running or self._started(job)
            if job.running is not None:
                self._attend(job, job.running)
        except TrainingError as error:
            if self._outcome(job)["finished"]:
                return self._outcome(job)
            reason = progress.failure(job.what.output_url)
            raise TrainingError(f"{reason} ({error})" if reason else str(error)) from error
        finally:
            metrics.forget(job.training_id)
        return self._outcome(job)

    def _started(self, job: Job) -> Running | None:
        """Start a training as soon as that can be; None if it was stopped before."""
        while not (job.stopping.is_set() or self._closing.is_set()):
            try:
                running = self._launcher.start(job.what)
            except UnavailableError as error:
                job.note = str(error)
                log.warning("cannot start yet: %s", error, extra={"training": job.training_id})
                self._closing.wait(START_SECONDS)
            else:
                output = job.what.output_url
                log.info("training", extra={"training": job.training_id, "output": output})
                return running
        return None

    def _attend(self, job: Job, running: Running) -> None:
        """Return when a training has ended, or is left alone. Raises TrainingError: it failed."""
        asked = False
        job.look(running)
        while not running.wait(LOOK_SECONDS):
            job.look(running)
            if self._closing.is_set() and running.leave():
                job.left = True
                return
            if not asked and (job.stopping.is_set() or self._closing.is_set()):
                asked = True
                running.stop()
        job.look(running)

    @staticmethod
    def _outcome(job: Job) -> Outcome:
        found = progress.summary(job.what.output_url, job.training_id)
        return found or {"finished": False}


def _trainable(url: str, config: TrainConfig) -> Manifest:
    """Return the manifest of a dataset that can be trained on as the settings want it."""
    manifest = manifests.load(url)
    image_files(url, manifest)
    require_thinnable(url, manifest, config.data)
    return manifest


def _may_start_again(job: Job) -> bool:
    """Say whether a training ended without a result: it failed, or was stopped."""
    if not job.future.done():
        return False
    return job.error is not None or not job.outcome["finished"]


def _log_end(job: Job) -> None:
    error, fields = job.error, {"training": job.training_id}
    if error is not None:
        log.error("training failed: %s", error, exc_info=error, extra=fields)
    else:
        log.info("training ended", extra={**fields, "finished": job.outcome["finished"]})
