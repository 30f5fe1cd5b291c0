"""Trainings as Jobs of a Kubernetes cluster.

A Job's name is made from the training's id, so that whoever starts the same training finds it. Only
the Job holds state: a launcher may die at any moment, and another one goes on watching.
"""

import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from clipcurate.errors import (
    ClipcurateError,
    ConflictError,
    NotFoundError,
    TrainingError,
    UnavailableError,
)
from clipcurate.training.launch import outcome
from clipcurate.training.launch.cluster import Cluster, ExpiredError
from clipcurate.training.launch.job import TrainJob
from clipcurate.training.launch.objects import (
    JOB,
    SELECTOR,
    SETTINGS,
    Object,
    Pods,
    job_object,
    name_of,
    service_object,
)
from clipcurate.training.launch.outcome import Ending

log = logging.getLogger(__name__)

WATCH_SECONDS = 10
"""After so long without an event pods are looked at again: not all that befalls them is one."""
PAUSES = (0.5, 30.0)
"""First and longest pause while the API server is away."""
GONE_SECONDS = 60.0
"""How long an ended Job may take to go, once deleted."""
LOG_LINES = 20


@dataclass(frozen=True)
class KubernetesLauncher:
    """Starts each training as an Indexed Job with a headless Service."""

    cluster: Cluster
    pods: Pods

    at_once = 256
    outlives = True

    def start(self, job: TrainJob) -> "ClusterTraining":
        """Create the Job, or find it running; one that has ended is replaced.

        Raises:
            InvalidInputError: the ranks cannot share the batch, or the API refuses the settings.
            ConflictError: a training with this id runs with other settings.
            UnavailableError: the API server is away, or the Job is just being deleted.
            TrainingError: the API server forbids it.
        """
        made = self._made_or_found(job_object(self.pods, job))
        self._ensure_service(job, made["metadata"]["uid"])
        return ClusterTraining(self.cluster, made)

    def started(self) -> Iterator[tuple[TrainJob, "ClusterTraining"]]:
        """Yield the trainings whose Jobs are in the namespace, whatever their settings.

        A Job that has ended stays for `keep_seconds`. One that is being deleted, as a training
        that is stopped is, is left out. One that cannot be followed, or that another version made,
        is logged and left alone. Raises UnavailableError, TrainingError: Jobs cannot be listed.
        """
        for found in sorted(self.cluster.jobs(SELECTOR), key=_created):
            about = found["metadata"]
            if "deletionTimestamp" in about:
                continue
            try:
                job = TrainJob.from_json(about["annotations"][JOB])
                if outcome.ending(found) is Ending.NOT_YET:
                    self._ensure_service(job, about["uid"])
            except (ClipcurateError, KeyError, TypeError, ValueError):
                log.exception("cannot go on with Job %s", about["name"])
                continue
            yield job, ClusterTraining(self.cluster, found)

    def _made_or_found(self, wanted: Object) -> Object:
        name = wanted["metadata"]["name"]
        try:
            return self.cluster.create_job(wanted)
        except ConflictError:
            found = self._found(name)
        if found["metadata"].get("deletionTimestamp"):
            raise UnavailableError(f"Job {name} is being deleted; start again when it has gone")
        if outcome.ending(found) is not Ending.NOT_YET:
            self._remove(name)
            return self.cluster.create_job(wanted)
        if _asked_for(found) != _asked_for(wanted):
            raise ConflictError(
                f"Job {name} runs this training with other settings; stop it first, or start it "
                "with those"
            )
        log.info("found Job %s", name)
        return found

    def _found(self, name: str) -> Object:
        try:
            return self.cluster.read_job(name)
        except NotFoundError as error:
            raise UnavailableError(f"Job {name} has just gone; start again") from error

    def _remove(self, name: str) -> None:
        """Delete a Job that has ended, and return when it has gone."""
        self.cluster.delete_job(name)
        deadline = time.monotonic() + GONE_SECONDS
        while time.monotonic() < deadline:
            try:
                self.cluster.read_job(name)
            except NotFoundError:
                return
            time.sleep(PAUSES[0])
        raise UnavailableError(f"Job {name} has ended but does not go; start again when it has")

    def _ensure_service(self, job: TrainJob, uid: str) -> None:
        wanted = service_object(job, uid)
        try:
            self.cluster.create_service(wanted)
        except ConflictError:
            found = self.cluster.read_service(name_of(job))
            owners = [owner["uid"] for owner in found["metadata"].get("ownerReferences", [])]
            if uid not in owners:
                raise UnavailableError(
                    f"Service {name_of(job)} is not this Job's; start again when Kubernetes has "
                    "collected it, or delete it"
                ) from None


class ClusterTraining:
    """A training's Job, followed by a thread."""

    def __init__(self, cluster: Cluster, job: Object) -> None:
        self.note = ""
        self._cluster = cluster
        self._name = job["metadata"]["name"]
        self._uid = job["metadata"]["uid"]
        self._stopping = False
        self._ended = threading.Event()
        self._error: Exception | None = None
        threading.Thread(target=self._follow, name=self._name, daemon=True).start()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the Job has ended or gone; say whether it has.

        Raises:
            TrainingError: it failed, was deleted by someone else, or may not be watched.
        """
        if not self._ended.wait(seconds):
            return False
        if self._error is not None:
            raise self._error
        return True

    def stop(self) -> None:
        """Delete the Job; its ranks have time to save a checkpoint."""
        self._stopping = True
        try:
            self._delete()
        except UnavailableError as error:
            self.note = str(error)  # the thread deletes it when the API server is back

    def leave(self) -> bool:
        """Follow it no more; the Job goes on. The thread ends with the watch that it is in."""
        self._ended.set()
        return True

    def _follow(self) -> None:
        pause = PAUSES[0]
        while not self._ended.is_set():
            try:
                self._watch()
                pause = PAUSES[0]
            except ExpiredError:
                continue
            except UnavailableError as error:
                self.note = str(error)
                log.warning("%s", error)
                self._ended.wait(pause)
                pause = min(pause * 2, PAUSES[1])
            except Exception as error:  # noqa: BLE001 - the thread's outermost loop
                self._end(error)

    def _watch(self) -> None:
        """Look at the Job, and at what happens to it from there for some seconds."""
        if self._stopping:
            self._delete()
        try:
            job = self._cluster.read_job(self._name)
        except NotFoundError:
            return self._gone()
        if job["metadata"]["uid"] != self._uid:
            return self._gone()
        if self._judge(job):
            return None
        version = job["metadata"]["resourceVersion"]
        for kind, seen in self._cluster.watch_job(self._name, version, WATCH_SECONDS):
            if kind == "DELETED":
                return self._gone()
            if self._judge(seen) or self._ended.is_set():
                return None
        return None

    def _judge(self, job: Object) -> bool:
        """Take note of a Job's state; say whether it has ended."""
        how = outcome.ending(job)
        if how is Ending.NOT_YET:
            self.note = outcome.trouble(job, self._cluster.pods(self._name))
            return False
        self._end(TrainingError(self._why(job)) if how is Ending.FAILED else None)
        return True

    def _why(self, job: Object) -> str:
        text = f"Job {self._name} failed: {outcome.why_failed(job)}"
        dead = outcome.last_dead(self._cluster.pods(self._name))
        if dead is None:
            return text
        return f"{text}; {outcome.death(dead)}; its last lines:\n{self._words(dead)}"

    def _words(self, pod: Object) -> str:
        """Return the end of a pod's output, from its status where its log is gone."""
        try:
            return self._cluster.log(pod["metadata"]["name"], LOG_LINES).rstrip()
        except ClipcurateError as error:
            return outcome.last_words(pod).rstrip() or str(error)

    def _delete(self) -> None:
        try:
            self._cluster.delete_job(self._name)
        except NotFoundError:
            log.info("Job %s has gone", self._name)

    def _gone(self) -> None:
        lost = TrainingError(
            f"Job {self._name} was deleted by someone else; starting the training again goes on "
            "from its newest checkpoint"
        )
        self._end(None if self._stopping else lost)

    def _end(self, error: Exception | None) -> None:
        self.note = ""
        self._error = error
        self._ended.set()


def _asked_for(job: Object) -> object:
    return job["metadata"].get("annotations", {}).get(SETTINGS)


def _created(job: Object) -> str:
    return str(job["metadata"]["creationTimestamp"])
