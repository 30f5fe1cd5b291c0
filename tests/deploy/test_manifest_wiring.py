"""The manifests fit together: ports, selectors, secrets, storage, Redis and its client."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from clipcurate.rpc.v1.ledger_pb2 import Stage
from services.matcher.tasks import STAGES as MATCHER_STAGES
from services.sampler.tasks import STAGES as SAMPLER_STAGES
from tests.deploy import custom_resources
from tests.deploy.manifests import (
    EXAMPLES,
    GRPC_PORTS,
    Object,
    Rendered,
    Workload,
    compose,
    matches,
)

FROM_ELSEWHERE = {"clipcurate-redis", "redis-ca", "clipcurate-s3"}
"""Secrets that an operator makes; those of the component `tls` come from cert-manager."""


def test_ports_agree_from_settings_to_services(rendered: Rendered) -> None:
    for workload in rendered.services():
        ports = {port["name"]: port["containerPort"] for port in workload.container["ports"]}
        assert ports == {"grpc": GRPC_PORTS[workload.name], "metrics": 9090}
        assert workload.setting("listen") == f"0.0.0.0:{ports['grpc']}"
        assert workload.setting("metrics_listen") == f"0.0.0.0:{ports['metrics']}"
        service = rendered.named("Service", workload.name)["spec"]
        assert {port["name"]: port["port"] for port in service["ports"]} == ports
        if workload.name != "counter":
            assert workload.setting("counter") == f"counter:{GRPC_PORTS['counter']}"
    for workload in rendered.workloads():
        if workload.name == "client":
            assert workload.settings["CLIPCURATE_SERVER"] == f"counter:{GRPC_PORTS['counter']}"
    for monitor in rendered.of("ServiceMonitor"):
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} == {"metrics"}
        watched = [s["metadata"] for s in rendered.of("Service")
                   if matches(monitor["spec"]["selector"], s["metadata"]["labels"])]  # fmt: skip
        assert {one["name"] for one in watched} == set(GRPC_PORTS)


def test_redis_and_the_counter_agree(rendered: Rendered) -> None:
    counter = next(one for one in rendered.workloads() if one.name == "counter")
    if not rendered.of("StatefulSet"):
        assert "REDIS_URL" in json.dumps(counter.container["env"])  # from the operator's secret
        assert "redis-ca" in json.dumps(counter.pod["volumes"])
        return
    redis = next(one for one in rendered.workloads() if one.name == "redis")
    files = rendered.named("ConfigMap", redis.mounts["/etc/redis"]["configMap"]["name"])["data"]
    lines = [line for name in sorted(files) if name.endswith(".conf")
             for line in files[name].splitlines()]  # fmt: skip
    conf = dict(line.split(" ", 1) for line in lines if not line.startswith("#"))
    secured = "tls-port" in conf
    (port,) = redis.container["ports"]
    assert counter.setting("redis_url") == f"redis{'s' * secured}://redis:{port['containerPort']}/0"
    if secured:
        assert (conf["port"], int(conf["tls-port"])) == ("0", port["containerPort"])
        for name in ("tls-cert-file", "tls-key-file", "tls-ca-cert-file"):
            redis.assert_mounted(conf[name])
        assert conf["tls-auth-clients"] == "yes"
        assert counter.setting("redis_tls_certificate") == "/tls/tls.crt"
        assert "--tls" in redis.container["readinessProbe"]["exec"]["command"]
    else:
        assert conf.get("port", "6379") == str(port["containerPort"])
    assert (conf["appendonly"], conf["appendfsync"]) == ("yes", "always")
    assert redis.mounts[conf["dir"]]["claim"]["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert counter.setting("require_durable") == "true"


def test_services_are_headless_and_select_the_pods_of_one_workload(rendered: Rendered) -> None:
    for service in rendered.of("Service"):
        (workload,) = rendered.selected({"matchLabels": service["spec"]["selector"]})
        assert workload.name == service["metadata"]["name"]
        assert service["spec"]["clusterIP"] == "None"
        ports = {port["name"]: port["containerPort"] for port in workload.container["ports"]}
        for port in service["spec"]["ports"]:
            assert ports[port["targetPort"]] == port["port"]  # DNS gives pods: no port is mapped


def test_no_deployment_takes_the_pod_of_an_example_for_its_own(rendered: Rendered) -> None:
    """`kubectl exec deploy/client` takes any pod that the deployment's selector matches."""
    jobs = [job for path in EXAMPLES if (job := yaml.safe_load(path.read_text()))["kind"] == "Job"]
    assert jobs
    for workload in rendered.workloads():
        for job in jobs:
            labels = job["spec"]["template"]["metadata"]["labels"]
            assert not matches(workload.object["spec"]["selector"], labels)


def test_selectors_find_pods_and_targets_exist(rendered: Rendered) -> None:
    for workload in rendered.workloads():
        assert matches(workload.object["spec"]["selector"], workload.labels)
        for rule in workload.pod.get("topologySpreadConstraints", []):
            assert rendered.selected(rule["labelSelector"]) == [workload]
        priority = workload.pod["priorityClassName"]
        assert rendered.named("PriorityClass", priority)
    scalers = rendered.of("HorizontalPodAutoscaler", "ScaledObject")
    scaled = [scaler["spec"]["scaleTargetRef"]["name"] for scaler in scalers]
    assert sorted(scaled) == ["matcher", "sampler"]  # by one scaler each
    for name in scaled:
        assert "replicas" not in rendered.named("Deployment", name)["spec"]


def test_no_budget_holds_a_drain_up(rendered: Rendered) -> None:
    for budget in rendered.of("PodDisruptionBudget"):
        assert len(rendered.selected(budget["spec"]["selector"])) == 1
        assert budget["spec"]["maxUnavailable"] == 1
    guarded = {b["metadata"]["name"] for b in rendered.of("PodDisruptionBudget")}
    redis = {"redis"} if rendered.of("StatefulSet") else set()
    assert guarded == {"counter", "matcher", "sampler"} | redis


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


def test_workers_and_clients_have_the_same_storage(rendered: Rendered) -> None:
    claimed = bool(rendered.of("PersistentVolumeClaim"))
    for workload in rendered.workloads():
        wanted = workload.name not in ("counter", "redis")
        shared = "persistentVolumeClaim" in workload.mounts.get("/data", {})
        assert shared is (wanted and claimed)
        secrets = [
            s["secretRef"]["name"]
            for s in workload.container.get("envFrom", [])
            if "secretRef" in s
        ]
        assert secrets == (["clipcurate-s3"] if wanted and not claimed else [])
    for runtime in rendered.of("TrainingRuntime"):
        (job,) = custom_resources.jobs_of(runtime)
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert ("/data" in [m["mountPath"] for m in container["volumeMounts"]]) is claimed
        assert (container["envFrom"] == []) is claimed


def test_pods_have_time_to_drain(rendered: Rendered) -> None:
    for workload in rendered.services():
        seconds = workload.container["lifecycle"]["preStop"]["sleep"]["seconds"]
        seconds += float(workload.setting("endpoint_seconds"))
        seconds += float(workload.setting("drain_seconds"))
        assert seconds + 10 <= workload.pod["terminationGracePeriodSeconds"]


def test_certificates_name_their_services(rendered: Rendered) -> None:
    for found in rendered.of("Certificate"):
        name, spec = found["metadata"]["name"], found["spec"]
        if spec.get("isCA"):
            assert spec["privateKey"]["rotationPolicy"] == "Never"
            continue
        assert spec["dnsNames"] == [name, f"{name}.clipcurate.svc", "localhost"]
        assert (spec["secretName"], spec["commonName"]) == (f"{name}-tls", name)
        assert set(spec["usages"]) == {"server auth", "client auth"}


def references(workload: Workload) -> Iterator[tuple[str, str]]:
    container: Object = workload.container
    for source in container.get("envFrom", []):
        for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
            if key in source:
                yield kind, source[key]["name"]
    for variable in container.get("env", []):
        if "valueFrom" in variable:
            yield "Secret", variable["valueFrom"]["secretKeyRef"]["name"]
    for volume in workload.mounts.values():
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
