"""What the manifests allow: no pod outside *restricted*, no right and no connection too many."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.deploy import custom_resources
from tests.deploy.manifests import EXAMPLES, GRPC_PORTS, Object, Rendered, Workload, matches
from tests.deploy.network import Labels, admitted, allowed, labels_of, leaves

RESTRICTED_VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
CLIENT = {"app.kubernetes.io/name": "client", "app.kubernetes.io/part-of": "clipcurate"}
TRAINING = {
    "app.kubernetes.io/name": "clipcurate",
    "app.kubernetes.io/managed-by": "clipcurate-trainer",
}
OUTSIDE: dict[str, Labels] = {
    "client": CLIENT,
    "training": TRAINING,
    "stranger": {"app": "stranger"},
}
"""Pods that are not in the manifests: clients, those that the launcher makes, somebody else's."""
REDIS_PORT = 6379
MEETING_PORT = 29400

MANAGED = {"app.kubernetes.io/managed-by": "clipcurate-trainer"}
EXAMPLES_ARE = {"Job": CLIENT, "Pod": {"app.kubernetes.io/name": "redis-restore"}}
"""Labels of the pods in examples by kind; network policies know clients and trainings by theirs."""


def pods_of(found: Object) -> list[Object]:
    """Return the pods that an object, of whatever kind, has templates of, with their labels."""
    if found["kind"] == "Pod":
        return [found]
    jobs = custom_resources.jobs_of(found) if custom_resources.is_custom(found) else [found]
    templates = (job["spec"].get("template", {}) for job in jobs if "spec" in job)
    return [template for template in templates if "containers" in template.get("spec", {})]


def test_no_pod_is_outside_restricted(rendered: Rendered) -> None:
    templates = [template for found in rendered.objects for template in pods_of(found)]
    assert len(templates) >= len(list(rendered.workloads())) >= len(GRPC_PORTS)
    for template in templates:
        assert_restricted(template["spec"])
    assert not rendered.of("DaemonSet", "CronJob", "ReplicaSet")  # pods_of knows none


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_restricted_and_known_to_the_policies(path: Path) -> None:
    example = yaml.safe_load(path.read_text())
    for template in pods_of(example):
        assert_restricted(template["spec"])
        labels = template["metadata"]["labels"]
        assert EXAMPLES_ARE.get(example["kind"], MANAGED).items() <= labels.items()
        assert_limited(template["spec"]["containers"][0])


def assert_restricted(pod: Object) -> None:
    """Hold a pod to the Pod Security Standard of that name, and to a read-only file system."""
    context, (container,) = pod["securityContext"], pod["containers"]
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers", "initContainers"} & set(pod)
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "sysctls" not in context
    assert pod["enableServiceLinks"] is False
    for volume in pod["volumes"]:
        assert set(volume) - {"name"} <= RESTRICTED_VOLUMES
        assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": ""})
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not any("hostPort" in port for port in container.get("ports", []))


def assert_limited(container: Object) -> None:
    _, _, tag = container["image"].rpartition("/")[2].partition(":")
    assert tag not in ("", "latest"), container["image"]
    assert {"cpu", "memory"} <= set(container["resources"]["requests"])
    assert "memory" in container["resources"]["limits"]


def test_every_container_has_a_pinned_image_requests_limits_and_probes(rendered: Rendered) -> None:
    for workload in rendered.workloads():
        container = workload.container
        assert_limited(container)
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            (way,) = {"grpc", "exec", "tcpSocket"} & set(container[probe])
            assert container[probe][way]
    for runtime in rendered.of("TrainingRuntime"):  # whose end tells how it is: a Job has no probes
        assert_limited(pods_of(runtime)[0]["spec"]["containers"][0])


def test_probes_speak_as_the_service_does(rendered: Rendered) -> None:
    for workload in rendered.workloads():
        if workload.name not in GRPC_PORTS:
            continue
        over_tls = "CLIPCURATE_TLS_AUTHORITY" in workload.settings
        port = GRPC_PORTS[workload.name]
        for name in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = workload.container[name]
            assert probe.get("timeoutSeconds", 1) >= 5
            health = () if name == "readinessProbe" else ("liveness",)
            if over_tls:
                words = ["python", "-m", "clipcurate.rpc.probe", f"localhost:{port}", *health]
                assert probe["exec"]["command"] == words
            else:
                assert probe["grpc"] == {
                    "port": port,
                    **({"service": "liveness"} if health else {}),
                }


def test_tls_is_for_all_or_for_none(rendered: Rendered) -> None:
    speaking = {w.name: "CLIPCURATE_TLS_AUTHORITY" in w.settings for w in rendered.workloads()}
    speaking.pop("redis", None)
    assert len(set(speaking.values())) == 1, speaking
    for workload in rendered.workloads():
        if speaking.get(workload.name):
            assert workload.mounts["/tls"]["secret"]["secretName"] == f"{workload.name}-tls"
            named = {
                n: workload.settings[f"CLIPCURATE_TLS_{n}"]
                for n in ("CERTIFICATE", "KEY", "AUTHORITY")
            }
            assert list(named.values()) == ["/tls/tls.crt", "/tls/tls.key", "/tls/ca.crt"]


def test_only_the_launcher_holds_a_token_and_reaches_its_own_namespace(rendered: Rendered) -> None:
    launches = bool(rendered.of("Role"))
    for workload in rendered.workloads():
        expected = launches and workload.name == "trainer"
        assert workload.pod["automountServiceAccountToken"] is expected
        account = rendered.named("ServiceAccount", workload.pod["serviceAccountName"])
        assert account["metadata"]["name"] == workload.name
        assert account["automountServiceAccountToken"] is False
    assert not rendered.of("ClusterRole", "ClusterRoleBinding")
    for binding in rendered.of("RoleBinding"):
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": "trainer", "namespace": "clipcurate"}
        ]
        assert binding["roleRef"]["name"] == "trainer"
    for role in rendered.of("Role"):
        assert sorted(map(repr, role["rules"])) == sorted(map(repr, documented_rules()))


def documented_rules() -> list[Object]:
    """Return the rights that the trainer's README lists, which its launcher's tests take away."""
    (block,) = re.findall(
        r"```yaml\n(.*?)```", (ROOT / "services/trainer/README.md").read_text(), re.S
    )
    rules: list[Object] = yaml.safe_load(block)["rules"]
    for rule in rules:
        assert set(rule["resources"]) <= {"jobs", "pods", "pods/log", "services"}
        assert "*" not in [*rule["verbs"], *rule["apiGroups"]]
    return rules


def test_the_launcher_uses_the_trainers_image(rendered: Rendered) -> None:
    (trainer,) = (one for one in rendered.workloads() if one.name == "trainer")
    if rendered.of("Role"):
        assert trainer.settings["CLIPCURATE_TRAINER_IMAGE"] == trainer.container["image"]


def edges() -> set[tuple[str, str, int]]:
    """The connections that the system has; docs/architecture.md draws them."""
    counter = {(name, "counter", GRPC_PORTS["counter"]) for name in GRPC_PORTS if name != "counter"}
    clients = {("client", name, port) for name, port in GRPC_PORTS.items()}
    return (
        counter
        | clients
        | {("counter", "redis", REDIS_PORT), ("training", "training", MEETING_PORT)}
    )


def test_policies_let_the_systems_connections_through_and_no_other(rendered: Rendered) -> None:
    if not rendered.of("NetworkPolicy"):
        return
    pods: dict[str, Workload | Labels] = OUTSIDE | {w.name: w for w in rendered.workloads()}
    ports = {*GRPC_PORTS.values(), 9090, REDIS_PORT, MEETING_PORT}
    # The pods of a training meet on any port.
    of_trainings = {("training", "training", port) for port in ports}
    for judge in (allowed, admitted):
        found = {
            (source, target, port)
            for source in pods
            for target in pods
            for port in ports
            if judge(rendered, labels_of(pods[source]), pods[target], port)
        }
        assert found == {edge for edge in edges() if edge[1] in pods} | of_trainings


def test_ways_out_of_the_cluster_are_those_of_egress(rendered: Rendered) -> None:
    if not rendered.of("NetworkPolicy"):
        return
    pods = OUTSIDE | {w.name: w.labels for w in rendered.workloads()}
    out = {port: {name for name in pods if leaves(rendered, pods[name], port)}
           for port in (80, 443, REDIS_PORT, 6380, 6443)}  # fmt: skip
    named = {policy["metadata"]["name"] for policy in rendered.of("NetworkPolicy")}
    if "storage" not in named:
        assert not any(out.values())
        return
    workers = {"matcher", "sampler", "trainer", "client", "training"}
    assert out == {
        80: set(),
        443: workers,
        REDIS_PORT: {"counter"},
        6380: {"counter"},
        6443: {"trainer"},
    }


def test_every_pod_asks_dns_and_monitoring_asks_for_metrics(rendered: Rendered) -> None:
    if not rendered.of("NetworkPolicy"):
        return
    deny = rendered.named("NetworkPolicy", "default-deny")["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    dns = rendered.named("NetworkPolicy", "dns")["spec"]
    assert dns["podSelector"] == {}
    assert [dict(sorted(p.items())) for p in dns["egress"][0]["ports"]] == [
        {"port": 53, "protocol": "UDP"},
        {"port": 53, "protocol": "TCP"},
    ]
    metrics = rendered.named("NetworkPolicy", "metrics")["spec"]
    assert {w.name for w in selected(rendered, metrics)} == set(GRPC_PORTS)
    monitoring = {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
    (rule,) = metrics["ingress"]
    assert rule == {"from": [{"namespaceSelector": monitoring}], "ports": [{"port": "metrics"}]}
    for policy in rendered.of("NetworkPolicy"):
        known = [*OUTSIDE.values(), *(w.labels for w in rendered.workloads())]
        idle = not any(matches(policy["spec"]["podSelector"], labels) for labels in known)
        assert not idle or "redis" in policy["metadata"]["name"]


def selected(rendered: Rendered, spec: Object) -> Iterator[Workload]:
    return (w for w in rendered.workloads() if matches(spec["podSelector"], w.labels))
