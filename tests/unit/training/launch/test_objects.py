import json

import kubernetes_validate
import pytest

from clipcurate.errors import InvalidInputError
from clipcurate.training.launch import TrainJob, contract
from clipcurate.training.launch.objects import (
    JOB,
    SETTINGS,
    Pods,
    job_object,
    name_of,
    service_object,
)

JOB_OF = TrainJob("s3://data", "tiny", "s3://out/x", {"seed": "1"}, "", "0123456789abcdef" * 2)
PLAIN = Pods("registry.example/trainer:1")
FULL = Pods(
    "registry.example/trainer:1",
    nodes=2,
    gpus=4,
    node_selector={"gpu": "h200"},
    tolerations=[{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
    claims={"datasets": "/data"},
    secrets={"gcs-key": "/secrets"},
    environment_secrets=["s3-keys"],
    environment={"AWS_DEFAULT_REGION": "eu-west-1"},
    service_account="storage-reader",
    queue="research",
)
# The schemas of the oldest version with all fields used here, of the newest, and of one between.
VERSIONS = ["1.31.0", "1.34.0", kubernetes_validate.latest_version()]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("pods", [PLAIN, FULL], ids=["plain", "full"])
def test_objects_pass_strict_schema_validation(pods: Pods, version: str) -> None:
    kubernetes_validate.validate(job_object(pods, JOB_OF), version, strict=True)
    kubernetes_validate.validate(service_object(JOB_OF, "uid"), version, strict=True)


def test_a_wrong_field_would_not_pass() -> None:
    job = job_object(PLAIN, JOB_OF)
    job["spec"]["template"]["spec"]["containers"][0]["limits"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, VERSIONS[-1], strict=True)


def test_pods_meet_the_restricted_pod_security_standard() -> None:
    """Kubernetes' Pod Security Standards, level "restricted", field by field."""
    pod = job_object(FULL, JOB_OF)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    allowed = {"emptyDir", "persistentVolumeClaim", "secret", "configMap", "projected"}
    assert all(set(volume) - {"name"} <= allowed for volume in pod["volumes"])
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert not any("hostPort" in port for port in container["ports"])
    assert pod["automountServiceAccountToken"] is False


def test_resources_are_guaranteed_and_memory_is_shared() -> None:
    pod = job_object(FULL, JOB_OF)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    requests, limits = container["resources"]["requests"], container["resources"]["limits"]
    assert requests == limits | {"ephemeral-storage": "144Gi"}
    assert limits["nvidia.com/gpu"] == "4"
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes[mounts["/dev/shm"]]["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}
    # Four ranks may cache 32 GiB each.
    assert volumes[mounts["/tmp"]]["emptyDir"] == {"sizeLimit": "144Gi"}
    assert volumes[mounts["/data"]]["persistentVolumeClaim"] == {"claimName": "datasets"}


def test_a_node_must_have_the_room_that_tmp_may_take() -> None:
    pod = job_object(Pods("i", scratch_size="2Ti"), JOB_OF)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["requests"]["ephemeral-storage"] == "2Ti"
    assert {"sizeLimit": "2Ti"} in [volume.get("emptyDir") for volume in pod["volumes"]]


def test_on_cpus_no_gpu_is_asked_for() -> None:
    pod = job_object(Pods("i", gpus=0), JOB_OF)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}
    assert container["args"][:4] == ["--nnodes", "1", "--nproc-per-node", "1"]


def test_the_job_is_indexed_and_survives_the_loss_of_nodes() -> None:
    job = job_object(FULL, JOB_OF)
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    ignore, unfinished, hopeless = spec["podFailurePolicy"]["rules"]
    assert ignore["action"] == "Ignore"
    assert ignore["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert unfinished["action"] == "Ignore"
    assert unfinished["onExitCodes"]["values"] == [contract.UNFINISHED]
    assert hopeless["action"] == "FailJob"
    assert hopeless["onExitCodes"]["values"] == [contract.HOPELESS]
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > FULL.save_seconds
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"


def test_pods_find_index_0_by_the_services_name() -> None:
    job, service = job_object(FULL, JOB_OF), service_object(JOB_OF, "uid")
    name = name_of(JOB_OF)
    pod = job["spec"]["template"]["spec"]
    environment = {item["name"]: item.get("value") for item in pod["containers"][0]["env"]}
    assert environment[contract.MEETING_PLACE] == f"{name}-0.{name}:29400"
    assert pod["subdomain"] == service["metadata"]["name"] == name
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": name}
    assert service["metadata"]["ownerReferences"][0]["uid"] == "uid"


def test_the_job_says_what_it_trains() -> None:
    job = job_object(FULL, JOB_OF)
    assert TrainJob.from_json(job["metadata"]["annotations"][JOB]) == JOB_OF
    assert len(name_of(JOB_OF)) <= 63 - len("-00000-xxxxx")
    other = job_object(PLAIN, JOB_OF)
    assert other["metadata"]["annotations"][SETTINGS] != job["metadata"]["annotations"][SETTINGS]
    assert other["metadata"]["name"] == job["metadata"]["name"]


def test_arguments_refer_to_no_variable() -> None:
    """Kubernetes turns $(NAME) into a variable's value and $$(NAME) into $(NAME)."""
    job = TrainJob("data/$(HOME)", "tiny", "out", training_id="0" * 32)
    text = job_object(PLAIN, job)["spec"]["template"]["spec"]["containers"][0]["args"][-1]
    assert "$$(HOME)" in text
    assert json.loads(text.replace("$$(", "$("))["dataset_url"] == "data/$(HOME)"


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="CLIPCURATE_TRAINER_IMAGE"):
        Pods("")
    with pytest.raises(InvalidInputError, match="3 processes cannot share 8 lanes"):
        job_object(Pods("i", nodes=3), JOB_OF)
