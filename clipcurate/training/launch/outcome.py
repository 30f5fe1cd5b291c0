"""What the state of a Job and its pods means, in words. Pure: objects in, texts out."""

from collections.abc import Iterable, Iterator
from enum import Enum

from clipcurate.training.launch.objects import Object

_USUAL = ("ContainerCreating", "PodInitializing")


class Ending(Enum):
    """How a Job has ended, or that it has not."""

    NOT_YET = "not yet"
    COMPLETE = "complete"
    FAILED = "failed"


def ending(job: Object) -> Ending:
    """Return how a Job has ended. Its pods may still be ending where it is about to fail."""
    if _condition(job, "Complete"):
        return Ending.COMPLETE
    return Ending.FAILED if _condition(job, "Failed") else Ending.NOT_YET


def why_failed(job: Object) -> str:
    """Return the reason that a failed Job gives."""
    condition = _condition(job, "Failed") or {}
    return ": ".join(filter(None, (condition.get("reason", ""), condition.get("message", ""))))


def trouble(job: Object, pods: Iterable[Object]) -> str:
    """Return what holds a Job up; "" if its pods run, or are on the usual way there."""
    if job["metadata"].get("deletionTimestamp"):
        return f"Job {job['metadata']['name']} is being deleted"
    if _condition(job, "Suspended"):
        return "waits in a queue"
    pods = list(pods)
    waiting = [text for pod in pods for text in _waits(pod)]
    if waiting:
        return "; ".join(sorted(waiting))
    running = sum(_phase(pod) == "Running" for pod in pods)
    dead = last_dead(pods)
    if dead and running < job["spec"]["parallelism"] - _succeeded(job):
        return f"starts again: {death(dead)}"
    return ""


def last_dead(pods: Iterable[Object]) -> Object | None:
    """Return the pod that failed last; None if none has."""
    failed = [pod for pod in pods if _phase(pod) == "Failed"]
    return max(failed, key=_end, default=None)


def death(pod: Object) -> str:
    """Say how a failed pod ended."""
    name = pod["metadata"]["name"]
    disruption = _condition(pod, "DisruptionTarget")
    if disruption:
        return f"pod {name} was taken away ({disruption.get('reason', 'disruption')})"
    ended = _terminated(pod)
    if not ended:
        status = pod["status"]
        return f"pod {name}: {status.get('reason', 'Failed')} {status.get('message', '')}".rstrip()
    return f"pod {name}: {ended.get('reason', 'Error')}, exit status {ended['exitCode']}"


def last_words(pod: Object) -> str:
    """Return the end of a pod's output that its status holds; "" if there is none."""
    return str(_terminated(pod).get("message", ""))


def _waits(pod: Object) -> Iterator[str]:
    name = pod["metadata"]["name"]
    unscheduled = _condition(pod, "PodScheduled", "False")
    if _phase(pod) == "Pending" and unscheduled:
        yield f"pod {name} has no node: {unscheduled.get('message', 'unschedulable')}"
    for status in pod["status"].get("containerStatuses", []):
        waiting = status["state"].get("waiting", {})
        reason = waiting.get("reason", "")
        if reason and reason not in _USUAL:
            yield f"pod {name}: {reason}: {waiting.get('message', '')}".rstrip(": ")


def _condition(item: Object, kind: str, status: str = "True") -> Object | None:
    for condition in item.get("status", {}).get("conditions", []):
        if condition["type"] == kind and condition["status"] == status:
            return dict(condition)
    return None


def _phase(pod: Object) -> str:
    return str(pod["status"].get("phase", "Pending"))


def _succeeded(job: Object) -> int:
    return int(job.get("status", {}).get("succeeded", 0))


def _terminated(pod: Object) -> Object:
    for status in pod["status"].get("containerStatuses", []):
        if "terminated" in status["state"]:
            return dict(status["state"]["terminated"])
    return {}


def _end(pod: Object) -> str:
    return str(_terminated(pod).get("finishedAt") or pod["metadata"].get("creationTimestamp", ""))
