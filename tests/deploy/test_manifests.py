"""The manifests: every overlay and combination of components renders, is valid, and is safe."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from clipcurate.rpc.v1.ledger_pb2 import Stage
from services.matcher.tasks import STAGES as MATCHER_STAGES
from services.sampler.tasks import STAGES as SAMPLER_STAGES
from tests.deploy.manifests import (
    K8S,
    OVERLAYS,
    SETTINGS,
    Object,
    Rendered,
    Workload,
    combinations,
    compose,
    matches,
    render,
)

VERSIONS = [f"1.{minor}" for minor in range(30, 37)]
CUSTOM = {"Certificate", "Issuer", "ScaledObject", "ServiceMonitor"}
"""Kinds that a cluster may lack; no package has their schemas."""
FROM_ELSEWHERE = {"clipcurate-redis", "redis-ca", "clipcurate-s3"}
"""Secrets that an operator makes; those of the component `tls` come from cert-manager."""
RESTRICTED_VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
OUTSIDE = [
    {"app.kubernetes.io/name": "client"},
    {"app.kubernetes.io/managed-by": "clipcurate-trainer"},
]
"""Labels of pods that are not in the manifests: clients, and those that the launcher makes."""
GRPC_PORTS = {"counter": 50051, "matcher": 50052, "sampler": 50053, "trainer": 50054}


def name_of(components: tuple[str, ...]) -> str:
    return "+".join(components)


@pytest.fixture(scope="module", params=[*OVERLAYS, "local+local-volumes", *combinations()])
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    folder = tmp_path_factory.mktemp("rendered")
    if request.param in OVERLAYS:
        return Rendered(render(K8S / "overlays" / request.param))
    if request.param == "local+local-volumes":
        return Rendered(compose(folder, ["local-volumes"], "overlays/local"))
    return Rendered(compose(folder, request.param))


def test_valid_for_every_supported_version(rendered: Rendered) -> None:
    assert rendered.objects
    for found in rendered.objects:
        if found["kind"] not in CUSTOM:
            validate(json.dumps(found))


@cache
def validate(text: str) -> None:
    """Most objects are the same in many combinations; once is enough."""
    for version in VERSIONS:
        kubernetes_validate.validate(json.loads(text), version, strict=True)


def test_validation_is_strict() -> None:
    text = '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "datum": {}}'
    with pytest.raises(kubernetes_validate.ValidationError, match="datum"):
        validate(text)


def test_everything_lies_in_a_namespace_that_enforces_restricted(rendered: Rendered) -> None:
    labels = rendered.named("Namespace", "clipcurate")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for found in rendered.objects:
        if found["kind"] not in ("Namespace", "PriorityClass", "PersistentVolume"):
            assert found["metadata"]["namespace"] == "clipcurate", found["metadata"]


def test_no_pod_is_outside_restricted(rendered: Rendered) -> None:
    for workload in rendered.workloads():
        assert_restricted(workload.pod)


def test_the_example_is_valid_and_restricted_and_may_call_the_services() -> None:
    job = yaml.safe_load((K8S / "examples" / "submit.yaml").read_text())
    validate(json.dumps(job))
    assert_restricted(job["spec"]["template"]["spec"])
    assert OUTSIDE[0].items() <= job["spec"]["template"]["metadata"]["labels"].items()


def assert_restricted(pod: Object) -> None:
    """Hold a pod to the Pod Security Standard of that name, and to a read-only file system."""
    context, (container,) = pod["securityContext"], pod["containers"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(pod)
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "sysctls" not in context
    for volume in pod["volumes"]:
        assert set(volume) - {"name"} <= RESTRICTED_VOLUMES
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not any("hostPort" in port for port in container.get("ports", []))


def test_only_the_launcher_holds_a_token_and_reaches_its_own_namespace(rendered: Rendered) -> None:
    launches = bool(rendered.of("Role"))
    for workload in rendered.workloads():
        expected = launches and workload.name == "trainer"
        assert workload.pod["automountServiceAccountToken"] is expected
        account = rendered.named("ServiceAccount", workload.pod["serviceAccountName"])
        assert account["automountServiceAccountToken"] is False
    assert not rendered.of("ClusterRole", "ClusterRoleBinding")
    for role in rendered.of("Role"):
        for rule in role["rules"]:
            assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]
            assert set(rule["resources"]) <= {"jobs", "pods", "pods/log", "services"}


def test_every_container_has_a_pinned_image_requests_limits_and_probes(rendered: Rendered) -> None:
    for workload in rendered.workloads():
        container = workload.container
        _, _, tag = container["image"].partition(":")
        assert tag not in ("", "latest"), container["image"]
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            (way,) = {"grpc", "exec", "tcpSocket"} & set(container[probe])
            assert container[probe][way]


def test_probes_speak_as_the_service_does(rendered: Rendered) -> None:
    for workload in services(rendered):
        over_tls = "CLIPCURATE_TLS_AUTHORITY" in workload.settings
        port = GRPC_PORTS[workload.name]
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = workload.container[name]
            health = () if name == "readinessProbe" else ("liveness",)
            if over_tls:
                words = ["python", "-m", "clipcurate.rpc.probe", f"localhost:{port}", *health]
                assert probe["exec"]["command"] == words
            else:
                assert probe["grpc"] == {
                    "port": port,
                    **({"service": "liveness"} if health else {}),
                }


def test_settings_are_ones_that_the_services_know(rendered: Rendered) -> None:
    known = {
        f"{kind.model_config['env_prefix']}{field}".upper()
        for kind in SETTINGS
        for field in kind.model_fields
    }
    assert "CLIPCURATE_COUNTER_REDIS_URL" in known
    for workload in services(rendered):
        given = {name for name in workload.settings if name.startswith("CLIPCURATE_")}
        assert given
        assert given <= known, given - known
        kind = next(k for k in SETTINGS if k.__name__ == f"{workload.name.title()}Settings")
        prefix = f"CLIPCURATE_{workload.name.upper()}_"
        values = {n.removeprefix(prefix).lower(): v for n, v in workload.settings.items()}
        kind(**{n: parsed(v) for n, v in values.items() if n in kind.model_fields and v})


def test_ports_agree_from_settings_to_services(rendered: Rendered) -> None:
    for workload in services(rendered):
        ports = {port["name"]: port["containerPort"] for port in workload.container["ports"]}
        assert ports == {"grpc": GRPC_PORTS[workload.name], "metrics": 9090}
        assert workload.setting("listen") == f"0.0.0.0:{ports['grpc']}"
        assert workload.setting("metrics_listen") == f"0.0.0.0:{ports['metrics']}"
        service = rendered.named("Service", workload.name)["spec"]
        assert {port["name"]: port["port"] for port in service["ports"]} == ports
        if workload.name != "counter":
            assert workload.setting("counter") == f"counter:{GRPC_PORTS['counter']}"


def test_services_are_headless_and_select_the_pods_of_one_workload(rendered: Rendered) -> None:
    for service in rendered.of("Service"):
        (workload,) = rendered.selected({"matchLabels": service["spec"]["selector"]})
        assert workload.name == service["metadata"]["name"]
        assert service["spec"]["clusterIP"] == "None"
        names = {port["name"] for port in workload.container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names


def test_selectors_find_pods_and_targets_exist(rendered: Rendered) -> None:
    for workload in rendered.workloads():
        assert matches(workload.object["spec"]["selector"], workload.labels)
        for rule in workload.pod.get("topologySpreadConstraints", []):
            assert rendered.selected(rule["labelSelector"]) == [workload]
        priority = workload.pod["priorityClassName"]
        assert rendered.named("PriorityClass", priority)
    for budget in rendered.of("PodDisruptionBudget"):
        assert len(rendered.selected(budget["spec"]["selector"])) == 1
    scalers = rendered.of("HorizontalPodAutoscaler", "ScaledObject")
    scaled = [scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers]
    assert sorted(scaled) == ["matcher", "sampler"]  # by one scaler each
    for name in scaled:
        assert "replicas" not in rendered.named("Deployment", name)["spec"]


def test_scalers_see_the_tasks_of_every_stage(tmp_path: Path) -> None:
    stages = {"matcher": MATCHER_STAGES, "sampler": SAMPLER_STAGES}
    for scaler in Rendered(compose(tmp_path, ["redis", "storage-pvc", "keda"])).of("ScaledObject"):
        query = scaler["spec"]["triggers"][0]["metadata"]["query"]
        (asked,) = re.findall(r'stage=~"([^"]+)"', query)
        numbers = stages[scaler["spec"]["scaleTargetRef"]["name"]]
        names = {Stage.Name(number).removeprefix("STAGE_").lower() for number in numbers}
        assert set(asked.split("|")) == names


def test_what_pods_refer_to_exists(rendered: Rendered) -> None:
    made = {(f["kind"], f["metadata"]["name"]) for f in rendered.objects}
    made |= {("Secret", name) for name in FROM_ELSEWHERE}
    made |= {("Secret", c["spec"]["secretName"]) for c in rendered.of("Certificate")}
    for workload in rendered.workloads():
        for kind, name in references(workload):
            assert (kind, name) in made
        mounts = [mount["name"] for mount in workload.container["volumeMounts"]]
        own = workload.object["spec"].get("volumeClaimTemplates", [])
        volumes = [v["name"] for v in workload.pod["volumes"]] + [
            c["metadata"]["name"] for c in own
        ]
        assert sorted(mounts) == sorted(volumes)


def test_pods_have_time_to_drain(rendered: Rendered) -> None:
    for workload in services(rendered):
        seconds = workload.container["lifecycle"]["preStop"]["sleep"]["seconds"]
        seconds += float(workload.setting("endpoint_seconds"))
        seconds += float(workload.setting("drain_seconds"))
        assert seconds + 10 <= workload.pod["terminationGracePeriodSeconds"]


def test_only_the_counter_reaches_redis(rendered: Rendered) -> None:
    policies = rendered.of("NetworkPolicy")
    for policy in policies:
        selector = policy["spec"]["podSelector"]
        outside = any(matches(selector, labels) for labels in OUTSIDE)
        assert outside or rendered.selected(selector) or "redis" in policy["metadata"]["name"]
    if not policies:
        return
    deny = rendered.named("NetworkPolicy", "default-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    redis = {"app.kubernetes.io/name": "redis", "app.kubernetes.io/part-of": "clipcurate"}
    admitting = [
        rule
        for policy in policies
        if matches(policy["spec"]["podSelector"], redis)
        for rule in policy["spec"].get("ingress", [])
    ]
    counter = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "counter"}}}
    assert admitting == [{"from": [counter], "ports": [{"port": 6379}]}]


def test_the_launcher_uses_the_trainers_image(rendered: Rendered) -> None:
    (trainer,) = (one for one in rendered.workloads() if one.name == "trainer")
    if rendered.of("Role"):
        assert trainer.settings["CLIPCURATE_TRAINER_IMAGE"] == trainer.container["image"]


def test_local_fits_a_node_of_two_cores_and_four_gib() -> None:
    requests = [
        workload.container["resources"]["requests"]
        for workload in Rendered(render(K8S / "overlays" / "local")).workloads()
    ]
    milli = sum(int(request["cpu"].removesuffix("m")) for request in requests)
    mebi = sum(int(request["memory"].removesuffix("Mi")) for request in requests)
    assert milli <= 2000 - 600  # the cluster's own pods
    assert mebi <= 4096 - 1024


def test_every_component_is_in_a_combination() -> None:
    used = {name for names in combinations() for name in names}
    assert used | {"local-volumes"} == {path.name for path in (K8S / "components").iterdir()}


def services(rendered: Rendered) -> Iterator[Workload]:
    return (one for one in rendered.workloads() if one.name != "redis")


def parsed(value: str) -> Any:
    """A setting's text as pydantic-settings reads it: JSON where it is a list or an object."""
    return yaml.safe_load(value) if value[0] in "[{" else value


def references(workload: Workload) -> Iterator[tuple[str, str]]:
    container: Object = workload.container
    for source in container.get("envFrom", []):
        for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if key in source:
                yield kind, source[key]["name"]
    for variable in container.get("env", []):
        if "valueFrom" in variable:
            yield "Secret", variable["valueFrom"]["secretKeyRef"]["name"]
    for volume in workload.pod["volumes"]:
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
