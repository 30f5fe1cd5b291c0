"""The Kubernetes objects of a training: settings and a job in, dictionaries out.

An Indexed Job with a pod per machine, and a headless Service under which the pods find each other
at index 0. The pods pass the Pod Security Standard "restricted" and hold no token of the API.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from clipcurate.errors import InvalidInputError
from clipcurate.hashing import hash_json
from clipcurate.training.launch import contract
from clipcurate.training.launch.job import TrainJob, refuse_uneven

Object = dict[str, Any]

OWNER = "clipcurate-trainer"
LABELS = {"app.kubernetes.io/name": "clipcurate", "app.kubernetes.io/managed-by": OWNER}
SELECTOR = ",".join(f"{name}={value}" for name, value in LABELS.items())
"""Selects what this launcher has made."""

JOB = "clipcurate.dev/job"
"""Annotation: the training, as `TrainJob.to_json`."""
SETTINGS = "clipcurate.dev/settings"
"""Annotation: hash of everything that was asked for."""

PORT = 29_400
SPARE_GIB = 16
"""Room in /tmp beside cached blocks: compiled kernels, checkpoints on their way, and what decides
over the pairs of a smaller dataset that is thinned while it is read."""
USER = 10_001
"""User and group of the processes: those of the project's images."""


@dataclass(frozen=True)
class Pods:
    """What the pods of a training are like. `services.trainer.settings` explains each."""

    image: str
    nodes: int = 1
    gpus: int = 1
    cpu: str = "8"
    memory: str = "64Gi"
    shm_size: str = "8Gi"
    scratch_size: str = ""
    restarts: int = 3
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: list[Object] = field(default_factory=list)
    claims: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    environment_secrets: list[str] = field(default_factory=list)
    environment: Mapping[str, str] = field(default_factory=dict)
    service_account: str = ""
    queue: str = ""
    pod_failures: int = 6
    save_seconds: int = 600
    keep_seconds: int = 86_400

    def __post_init__(self) -> None:
        if not self.image:
            raise InvalidInputError(
                "no image for training pods; set CLIPCURATE_TRAINER_IMAGE to the trainer's image"
            )

    @property
    def ranks_per_node(self) -> int:
        """Processes of a pod: one per GPU, or one on CPUs."""
        return self.gpus or 1


def name_of(job: TrainJob) -> str:
    """Return the name of a training's Job and Service; pods append their index and more."""
    return f"clipcurate-train-{job.training_id[:16]}"


def job_object(pods: Pods, job: TrainJob) -> Object:
    """Return the Job (batch/v1). Raises InvalidInputError: its ranks cannot share the batch."""
    refuse_uneven(job, pods.nodes * pods.ranks_per_node)
    labels = LABELS | {"clipcurate.dev/training": job.training_id}
    queue = {"kueue.x-k8s.io/queue-name": pods.queue} if pods.queue else {}
    spec = {
        "completionMode": "Indexed",
        "completions": pods.nodes,
        "parallelism": pods.nodes,
        "suspend": bool(pods.queue),
        "backoffLimitPerIndex": pods.pod_failures,
        "maxFailedIndexes": 0,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": _failure_policy(),
        "ttlSecondsAfterFinished": pods.keep_seconds,
        "template": {"metadata": {"labels": labels}, "spec": _pod(pods, job)},
    }
    notes = {JOB: job.to_json(), SETTINGS: hash_json(spec)}
    metadata = {"name": name_of(job), "labels": labels | queue, "annotations": notes}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def service_object(job: TrainJob, uid: str) -> Object:
    """Return the headless Service (v1) that goes when the Job of this uid goes."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name_of(job), "uid": uid}
    metadata = {"name": name_of(job), "labels": LABELS, "ownerReferences": [owner]}
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,  # pods meet before they could be ready
        "selector": {"batch.kubernetes.io/job-name": name_of(job)},
        "ports": [{"name": "meeting", "port": PORT, "targetPort": PORT, "protocol": "TCP"}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def _failure_policy() -> Object:
    """Losing a node is nobody's fault, nor is stopping because another pod lost its node.

    An error that would come again needs no second try.
    """
    disruption = {"type": "DisruptionTarget", "status": "True"}
    return {
        "rules": [
            {"action": "Ignore", "onPodConditions": [disruption]},
            {"action": "Ignore", "onExitCodes": _status(contract.UNFINISHED)},
            {"action": "FailJob", "onExitCodes": _status(contract.HOPELESS)},
        ]
    }


def _status(status: int) -> Object:
    return {"containerName": "trainer", "operator": "In", "values": [status]}


def _pod(pods: Pods, job: TrainJob) -> Object:
    scratch_size = pods.scratch_size or _scratch_size(pods, job)
    volumes, mounts = _volumes(pods, scratch_size)
    spec: Object = {
        "restartPolicy": "Never",
        "subdomain": name_of(job),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # The agent gives the ranks all of save_seconds; what is left is for the agent itself.
        "terminationGracePeriodSeconds": pods.save_seconds + 30,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(pods, job, mounts, scratch_size)],
        "volumes": volumes,
    }
    optional = {
        "nodeSelector": dict(pods.node_selector),
        "tolerations": list(pods.tolerations),
        "serviceAccountName": pods.service_account,
    }
    return spec | {name: value for name, value in optional.items() if value}


def _container(pods: Pods, job: TrainJob, mounts: list[Object], scratch_size: str) -> Object:
    ranks = ["--nnodes", str(pods.nodes), "--nproc-per-node", str(pods.ranks_per_node)]
    restarts = ["--max-restarts", str(pods.restarts)]
    amounts = {"cpu": pods.cpu, "memory": pods.memory}
    if pods.gpus:
        amounts["nvidia.com/gpu"] = str(pods.gpus)
    return {
        "name": "trainer",
        "image": pods.image,
        "command": ["python", "-m", contract.AGENT],
        "args": [*ranks, *restarts, "-m", contract.WORKER, _literal(job.to_json())],
        "env": _environment(pods, job),
        "envFrom": [{"secretRef": {"name": name}} for name in pods.environment_secrets],
        "ports": [{"name": "meeting", "containerPort": PORT, "protocol": "TCP"}],
        # /tmp has a limit of its own; a limit here would count the logs in.
        "resources": {"requests": amounts | {"ephemeral-storage": scratch_size}, "limits": amounts},
        "volumeMounts": mounts,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _literal(text: str) -> str:
    """Return an argument in which Kubernetes finds no reference to a variable."""
    return text.replace("$(", "$$(")


def _environment(pods: Pods, job: TrainJob) -> list[Object]:
    name = name_of(job)
    values = {
        contract.MEETING_PLACE: f"{name}-0.{name}:{PORT}",
        contract.NAME: name,
        contract.SAVE_SECONDS: str(pods.save_seconds),
        "HOME": "/tmp",  # noqa: S108 - an emptyDir of the pod
        **pods.environment,
    }
    address = {"name": contract.ADDRESS, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    return [address, *({"name": key, "value": value} for key, value in values.items())]


def _scratch_size(pods: Pods, job: TrainJob) -> str:
    """Return room for the cached blocks of all ranks of a pod, and for what else is temporary.

    How many pairs the dataset has is not known here; `SPARE_GIB` has room for some.
    """
    cached = job.config.runtime.cache_bytes * pods.ranks_per_node
    return f"{cached // 2**30 + SPARE_GIB}Gi"


def _volumes(pods: Pods, scratch_size: str) -> tuple[list[Object], list[Object]]:
    """Return the pod's volumes, and where the container has them."""
    memory = {"medium": "Memory", "sizeLimit": pods.shm_size}
    sources: list[tuple[str, Object, bool]] = [
        ("/dev/shm", {"emptyDir": memory}, False),  # noqa: S108
        ("/tmp", {"emptyDir": {"sizeLimit": scratch_size}}, False),  # noqa: S108
    ]
    for claim, path in pods.claims.items():
        sources.append((path, {"persistentVolumeClaim": {"claimName": claim}}, False))
    for secret, path in pods.secrets.items():
        sources.append((path, {"secret": {"secretName": secret}}, True))
    volumes, mounts = [], []
    for number, (path, source, read_only) in enumerate(sources):
        volumes.append({"name": f"volume-{number}", **source})
        mounts.append({"name": f"volume-{number}", "mountPath": path, "readOnly": read_only})
    return volumes, mounts
