"""What a Kubernetes control plane does with Jobs, Pods and Services, in memory.

A store with versions and a history that can be watched, and over it the Job controller and the
garbage collector, as far as Indexed Jobs need them. Nodes are played by whoever calls `run`,
`succeed` and `fail`. Objects are checked strictly against the published schemas when created.
"""

import copy
import itertools
import threading
import uuid
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import kubernetes_validate

Object = dict[str, Any]
VERSION = kubernetes_validate.latest_version()


class Refusal(Exception):  # noqa: N818 - what the API says, not what went wrong
    """What the API answers instead of a result."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class State:
    """All objects, by (resource, name), and what happened to them, by version."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.objects: dict[tuple[str, str], Object] = {}
        self.history: list[tuple[int, str, str, Object]] = []
        self.forgotten = 0
        self.logs: dict[str, str] = {}
        self.holds_pods = False
        self._versions = itertools.count(1)
        self._latest = 0

    @property
    def version(self) -> int:
        """The version of the whole store."""
        return self._latest

    def all(self, resource: str) -> list[Object]:
        with self.changed:
            return [
                copy.deepcopy(item) for (kind, _), item in self.objects.items() if kind == resource
            ]

    def get(self, resource: str, name: str) -> Object:
        with self.changed:
            if (resource, name) not in self.objects:
                raise Refusal(404, "NotFound", f'{resource} "{name}" not found')
            return copy.deepcopy(self.objects[resource, name])

    def create(self, resource: str, item: Object) -> Object:
        try:
            kubernetes_validate.validate(item, VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            raise Refusal(
                422, "Invalid", f"{'.'.join(map(str, error.path))}: {error.message}"
            ) from error
        with self.changed:
            name = item["metadata"]["name"]
            if (resource, name) in self.objects:
                raise Refusal(409, "AlreadyExists", f'{resource} "{name}" already exists')
            return self._add(resource, item)

    def delete(self, resource: str, name: str, policy: str = "Background") -> None:
        """Delete an object; of a Job first the pods, or the Job first, as the policy says."""
        with self.changed:
            item = self.get(resource, name)
            pods = [pod for pod in self.pods(name) if resource == "jobs"]
            item["metadata"]["deletionTimestamp"] = now()
            if policy == "Foreground" and resource == "jobs":
                item["metadata"]["finalizers"] = ["foregroundDeletion"]
                self._put(resource, item)
            else:
                self._drop(resource, name)
            for pod in pods:
                self._terminate(pod)
            self._collect()

    def forget(self) -> None:
        """Forget what happened so far: older versions cannot be watched from any more."""
        with self.changed:
            self.forgotten = self._latest
            self.history.clear()

    def pods(self, job: str) -> list[Object]:
        """Return a Job's pods, by index."""
        label = "batch.kubernetes.io/job-name"
        found = [pod for pod in self.all("pods") if pod["metadata"]["labels"][label] == job]
        return sorted(found, key=lambda pod: (index_of(pod), pod["metadata"]["name"]))

    def active(self, job: str, index: int) -> Object:
        """Return the pod that works on an index."""
        return next(pod for pod in self.pods(job) if index_of(pod) == index and not has_ended(pod))

    def run(self, pod: Object) -> None:
        """A node has started a pod."""
        self._set_status(pod, "Running", {"running": {"startedAt": now()}})

    def wait(self, pod: Object, reason: str, message: str) -> None:
        """A node cannot start a pod yet."""
        self._set_status(pod, "Pending", {"waiting": {"reason": reason, "message": message}})

    def condition(self, resource: str, name: str, condition: Object) -> None:
        """Set a condition."""
        with self.changed:
            item = self.get(resource, name)
            item["status"].setdefault("conditions", []).append(condition)
            self._put(resource, item)

    def succeed(self, pod: Object) -> None:
        """A pod's process has ended well."""
        self._set_status(pod, "Succeeded", ended(0, "Completed"))

    def fail(self, pod: Object, code: int, reason: str = "Error", disruption: str = "") -> None:
        """A pod's process has ended badly, or its node was lost."""
        if disruption:
            condition = {"type": "DisruptionTarget", "status": "True", "reason": disruption}
            self.condition("pods", pod["metadata"]["name"], condition)
        self._set_status(pod, "Failed", ended(code, reason))

    def vanish(self, pod: Object) -> None:
        """A pod that had to go has gone."""
        with self.changed:
            if ("pods", pod["metadata"]["name"]) in self.objects:
                self._drop("pods", pod["metadata"]["name"])
            self._collect()

    def _set_status(self, pod: Object, phase: str, state: Object) -> None:
        with self.changed:
            item = self.get("pods", pod["metadata"]["name"])
            item["status"]["phase"] = phase
            item["status"]["containerStatuses"] = [{"name": "trainer", "state": state}]
            self._put("pods", item)
            job = item["metadata"]["labels"]["batch.kubernetes.io/job-name"]
            if ("jobs", job) in self.objects:
                self._sync(job)

    def _terminate(self, pod: Object) -> None:
        pod["metadata"]["deletionTimestamp"] = now()
        self._put("pods", pod)
        if has_ended(pod) or not self.holds_pods:
            self.vanish(pod)

    def _collect(self) -> None:
        """Let go what waits for nothing more, and what has no owner any more."""
        for job in self.all("jobs"):
            name = job["metadata"]["name"]
            if "deletionTimestamp" in job["metadata"] and not self.pods(name):
                self._drop("jobs", name)
        jobs = {job["metadata"]["uid"] for job in self.all("jobs")}
        for service in self.all("services"):
            owners = [owner["uid"] for owner in service["metadata"].get("ownerReferences", [])]
            if owners and not jobs & set(owners):
                self._drop("services", service["metadata"]["name"])

    def _sync(self, name: str) -> None:
        """Do what the Job controller does after a change of a Job or of its pods."""
        job = self.get("jobs", name)
        spec, pods = job["spec"], self.pods(name)
        if "deletionTimestamp" in job["metadata"] or has_condition(job, "Complete", "Failed"):
            return
        verdicts = {pod["metadata"]["name"]: verdict(spec, pod) for pod in pods}
        done = {index_of(pod) for pod in pods if pod["status"]["phase"] == "Succeeded"}
        counted = Counter(index_of(p) for p in pods if verdicts[p["metadata"]["name"]] == "Count")
        lost = [index for index, times in counted.items() if times > spec["backoffLimitPerIndex"]]
        if "FailJob" in verdicts.values():
            job = end(
                job,
                "Failed",
                "PodFailurePolicy",
                "Container trainer failed with a status of the policy",
            )
        elif len(lost) > spec["maxFailedIndexes"]:
            job = end(
                job,
                "Failed",
                "MaxFailedIndexesExceeded",
                "Job has exceeded the specified maximal number of failed indexes",
            )
        elif len(done) == spec["completions"]:
            job = end(job, "Complete", "CompletionsReached", "")
        elif not spec.get("suspend"):
            working = {index_of(pod) for pod in pods if not has_ended(pod)}
            for index in set(range(spec["completions"])) - done - working - set(lost):
                self._add("pods", new_pod(job, index))
        pods = self.pods(name)
        job["status"]["active"] = sum(not has_ended(pod) for pod in pods)
        job["status"]["succeeded"] = len(done)
        job["status"]["failed"] = sum(pod["status"]["phase"] == "Failed" for pod in pods)
        self._put("jobs", job)
        if has_condition(job, "Failed"):
            for pod in pods:
                if not has_ended(pod):
                    self._terminate(pod)

    def _add(self, resource: str, item: Object) -> Object:
        item = copy.deepcopy(item)
        item["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now()}
        item.setdefault("status", {})
        self._put(resource, item, "ADDED")
        if resource == "jobs":
            self._sync(item["metadata"]["name"])
        return self.get(resource, item["metadata"]["name"])

    def _put(self, resource: str, item: Object, kind: str = "MODIFIED") -> None:
        self._latest = next(self._versions)
        item["metadata"]["resourceVersion"] = str(self._latest)
        self.objects[resource, item["metadata"]["name"]] = copy.deepcopy(item)
        self._tell(kind, resource, item)

    def _drop(self, resource: str, name: str) -> None:
        self._latest = next(self._versions)
        item = self.objects.pop((resource, name))
        item["metadata"]["resourceVersion"] = str(self._latest)
        self._tell("DELETED", resource, item)

    def _tell(self, kind: str, resource: str, item: Object) -> None:
        self.history.append((self._latest, kind, resource, copy.deepcopy(item)))
        self.changed.notify_all()


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def index_of(pod: Object) -> int:
    return int(pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"])


def has_ended(pod: Object) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def has_condition(item: Object, *kinds: str) -> bool:
    return any(found["type"] in kinds for found in item["status"].get("conditions", []))


def ended(code: int, reason: str) -> Object:
    return {"terminated": {"exitCode": code, "reason": reason, "finishedAt": now()}}


def end(job: Object, kind: str, reason: str, message: str) -> Object:
    condition = {"type": kind, "status": "True", "reason": reason, "message": message}
    job["status"].setdefault("conditions", []).append(condition)
    return job


def verdict(spec: Object, pod: Object) -> str:
    """Return what a Job's policy makes of a pod: Ignore, FailJob, Count; "" if it did not fail."""
    if pod["status"]["phase"] != "Failed":
        return ""
    code = pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"]
    for rule in spec["podFailurePolicy"]["rules"]:
        wanted = {found["type"] for found in rule.get("onPodConditions", [])}
        if has_condition(pod, *wanted) or code in rule.get("onExitCodes", {}).get("values", []):
            return str(rule["action"])
    return "Count"


def new_pod(job: Object, index: int) -> Object:
    template, name = copy.deepcopy(job["spec"]["template"]), job["metadata"]["name"]
    labels = {
        "batch.kubernetes.io/job-name": name,
        "batch.kubernetes.io/job-completion-index": str(index),
    }
    metadata = {
        "name": f"{name}-{index}-{uuid.uuid4().hex[:5]}",
        "labels": template["metadata"]["labels"] | labels,
        "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
    }
    template["spec"]["hostname"] = f"{name}-{index}"
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": template["spec"],
        "status": {"phase": "Pending"},
    }
