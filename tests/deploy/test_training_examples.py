"""Trainings that Kubeflow's Trainer or JobSet run: the launcher's pods, and they really meet."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("torch", reason="training needs the train extra")

from clipcurate.training.launch import TrainJob, contract
from clipcurate.training.launch.objects import job_object
from services.trainer.settings import TrainerSettings
from tests.deploy.manifests import K8S, Object
from tests.integration.test_trainer_service import write_dataset
from tests.ports import free_port

PATIENCE = 120.0
NODES = 2


def read(path: str) -> Object:
    value: Object = yaml.safe_load((K8S / path).read_text())
    return value


def jobset() -> tuple[Object, Object]:
    """Return the example's JobSet, and its Job."""
    example = read("examples/train-jobset.yaml")
    (replicated,) = example["spec"]["replicatedJobs"]
    assert replicated["replicas"] == 1
    return example, replicated["template"]


def runtime() -> Object:
    """Return the Job of the component's TrainingRuntime."""
    spec = read("components/kubeflow/runtime.yaml")["spec"]["template"]["spec"]
    job: Object = spec["replicatedJobs"][0]["template"]
    return job


def container(job: Object) -> Object:
    (found,) = job["spec"]["template"]["spec"]["containers"]
    return dict(found)


def launched(text: str) -> Object:
    """Return the Job that the launcher makes of a training on two machines of eight GPUs."""
    settings = TrainerSettings(image="clipcurate/trainer:0.1.0", nodes=NODES, gpus=8, cpu="64",
                               memory="512Gi", claims={"data": "/data"})  # fmt: skip
    return job_object(settings.pods(), TrainJob.from_json(text))


def named(environment: list[Object]) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in environment}


def volumes(pod: Object) -> dict[str, Object]:
    """Return where a pod has what, whatever the volumes are called."""
    kinds = {v["name"]: {k: v[k] for k in v if k != "name"} for v in pod["volumes"]}
    (only,) = pod["containers"]
    return {mount["mountPath"]: kinds[mount["name"]] for mount in only["volumeMounts"]}


def same_pod(ours: Object, launchers: Object, *, but: set[str]) -> None:
    """Hold a pod to the launcher's, but for some fields of the container."""
    for field in {*ours, *launchers} - {"containers", "volumes", "subdomain"}:
        assert ours.get(field) == launchers.get(field), field
    (one,), (other,) = ours["containers"], launchers["containers"]
    assert one["image"].partition(":")[0] == other["image"].partition(":")[0]
    for field in {*one, *other} - {"image", "env", "envFrom", "volumeMounts", "ports"} - but:
        assert one.get(field) == other.get(field), field


def test_the_jobset_is_the_launchers_job() -> None:
    example, ours = jobset()
    theirs = launched(container(ours)["args"][-1])
    pod, launchers = (job["spec"]["template"]["spec"] for job in (ours, theirs))
    same_pod(pod, launchers, but={"args"})
    assert volumes(pod) == volumes(launchers)
    words = [text for word in container(ours)["args"][:-1] for text in word.split("=")]
    assert words == container(theirs)["args"][:-1]
    for field in {*ours["spec"], *theirs["spec"]} - {
        "template",
        "suspend",
        "ttlSecondsAfterFinished",
    }:
        assert ours["spec"].get(field) == theirs["spec"].get(field), field
    environment, launchers_environment = (named(container(job)["env"]) for job in (ours, theirs))
    assert set(environment) == set(launchers_environment)
    name = example["metadata"]["name"]
    # As JobSet names the pods: <JobSet>-<replicated Job>-<its number>-<index>.<JobSet>
    assert environment[contract.MEETING_PLACE] == f"{name}-node-0-0.{name}:29400"
    assert environment[contract.SAVE_SECONDS] == launchers_environment[contract.SAVE_SECONDS]


def test_kubeflows_pod_is_the_launchers() -> None:
    (text,) = read("examples/train-kubeflow.yaml")["spec"]["trainer"]["args"]
    ours, theirs = runtime(), launched(text)
    pod, launchers = (job["spec"]["template"]["spec"] for job in (ours, theirs))
    same_pod(pod, launchers, but={"name", "command", "args", "resources"})
    assert volumes(pod) == {
        path: volume for path, volume in volumes(launchers).items() if path != "/data"
    }
    assert container(ours)["name"] == "node"  # to which alone Kubeflow gives torchrun's variables
    rules = json.dumps(ours["spec"]["podFailurePolicy"]).replace('"node"', '"trainer"')
    assert json.loads(rules) == theirs["spec"]["podFailurePolicy"]
    limits = read("examples/train-kubeflow.yaml")["spec"]["trainer"]["resourcesPerNode"]
    assert limits == container(theirs)["resources"]


def kubeflow_agent(text: str, index: int, port: int) -> subprocess.Popen[str]:
    """Start a pod's process as Kubeflow's Trainer has it started: its plug-in for torch."""
    given = {"PET_NNODES": str(NODES), "PET_NPROC_PER_NODE": "1", "PET_NODE_RANK": str(index),
             "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(port)}  # fmt: skip
    return started(container(runtime()), [text], index, given)


def jobset_agent(text: str, index: int, port: int) -> subprocess.Popen[str]:
    """Start a pod's process as JobSet does, with one process instead of eight."""
    given = container(jobset()[1])
    words = [word.replace("per-node=8", "per-node=1") for word in given["args"][:-1]]
    return started(given, [*words, text], index, {contract.MEETING_PLACE: f"127.0.0.1:{port}"})


def started(
    container: Object, arguments: list[str], index: int, environment: dict[str, str]
) -> subprocess.Popen[str]:
    own = {name: value for name, value in named(container["env"]).items() if isinstance(value, str)}
    job = {contract.INDEX: str(index), contract.ADDRESS: "127.0.0.1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *container["command"][1:], *arguments]
    return subprocess.Popen(command, env=os.environ | own | job | environment, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip


@pytest.mark.parametrize("agent", [kubeflow_agent, jobset_agent])
def test_two_pods_meet_and_train(agent: Any, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", 32)
    small = {"batch_size": "8", "seen_pairs": "64", "log_every": "1"}
    text = TrainJob(dataset, "tiny", str(tmp_path / "out"), small).to_json()
    port = free_port()
    pods = [agent(text, index, port) for index in (1, 0)]
    try:
        said = [pod.communicate(timeout=PATIENCE)[0] for pod in pods]
    finally:
        for pod in pods:
            pod.kill()
    assert [pod.returncode for pod in pods] == [0, 0], said
    assert sum("step 8/8" in text for text in said) == 1, said  # of two ranks, one tells
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["finished"]
