from typing import Any

from clipcurate.training.launch import outcome
from clipcurate.training.launch.outcome import Ending


def job(*conditions: dict[str, str], **metadata: str) -> dict[str, Any]:
    status = {"conditions": list(conditions)} if conditions else {}
    return {"metadata": {"name": "j", **metadata}, "spec": {"parallelism": 1}, "status": status}


def pod(phase: str, name: str = "p", **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "status": {"phase": phase, **status}}


def container(state: str, **facts: Any) -> list[dict[str, Any]]:
    return [{"name": "trainer", "state": {state: facts}}]


def met(kind: str, **more: str) -> dict[str, str]:
    return {"type": kind, "status": "True", **more}


def test_endings() -> None:
    assert outcome.ending(job()) is Ending.NOT_YET
    assert outcome.ending(job(met("FailureTarget"))) is Ending.NOT_YET
    assert outcome.ending(job(met("Complete"))) is Ending.COMPLETE
    failed = job(met("Failed", reason="BackoffLimitExceeded", message="too often"))
    assert outcome.ending(failed) is Ending.FAILED
    assert outcome.why_failed(failed) == "BackoffLimitExceeded: too often"
    assert outcome.ending(job({"type": "Complete", "status": "False"})) is Ending.NOT_YET


def test_nothing_holds_up_what_starts_as_usual() -> None:
    starting = pod("Pending", containerStatuses=container("waiting", reason="ContainerCreating"))
    assert outcome.trouble(job(), [starting]) == ""
    assert outcome.trouble(job(), [pod("Running")]) == ""
    assert outcome.trouble(job(), []) == ""


def test_what_holds_a_job_up() -> None:
    assert outcome.trouble(job(met("Suspended")), []) == "waits in a queue"
    assert "is being deleted" in outcome.trouble(job(deletionTimestamp="t"), [pod("Running")])
    pulling = container("waiting", reason="ErrImagePull", message="no such image")
    assert outcome.trouble(job(), [pod("Pending", containerStatuses=pulling)]) == (
        "pod p: ErrImagePull: no such image"
    )
    missing = [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes"}]
    assert outcome.trouble(job(), [pod("Pending", conditions=missing)]) == (
        "pod p has no node: 0/3 nodes"
    )


def test_a_pod_that_failed_holds_up_until_its_successor_runs() -> None:
    dead = pod("Failed", "a", containerStatuses=container("terminated", exitCode=1, reason="Error"))
    assert outcome.trouble(job(), [dead, pod("Pending", "b")]) == (
        "starts again: pod a: Error, exit status 1"
    )
    assert outcome.trouble(job(), [dead, pod("Running", "b")]) == ""


def test_how_pods_die() -> None:
    killed = container("terminated", exitCode=137, reason="OOMKilled", message="last words")
    oom = pod("Failed", containerStatuses=killed)
    assert outcome.death(oom) == "pod p: OOMKilled, exit status 137"
    assert outcome.last_words(oom) == "last words"
    gone = pod("Failed", conditions=[met("DisruptionTarget", reason="DeletionByTaintManager")])
    assert outcome.death(gone) == "pod p was taken away (DeletionByTaintManager)"
    evicted = pod("Failed", reason="Evicted", message="ephemeral storage exceeds 144Gi")
    assert outcome.death(evicted) == "pod p: Evicted ephemeral storage exceeds 144Gi"
    assert outcome.last_words(evicted) == ""


def test_the_last_dead_is_the_one_that_ended_last() -> None:
    first, second = (
        pod("Failed", end, containerStatuses=container("terminated", exitCode=1, finishedAt=end))
        for end in ("2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z")
    )
    assert outcome.last_dead([second, first, pod("Running")]) == second
    assert outcome.last_dead([pod("Running")]) is None
