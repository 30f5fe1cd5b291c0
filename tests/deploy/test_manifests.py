"""The manifests: every overlay and combination of components renders and is valid."""

import json
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.conftest import ROOT
from tests.deploy import custom_resources
from tests.deploy.manifests import K8S, OVERLAYS, SETTINGS, Rendered, combinations, render

VERSIONS = [f"1.{minor}" for minor in range(30, 37)]
EXAMPLES = sorted((K8S / "examples").iterdir())
REFUSED = (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError, ValueError)


def test_valid_for_every_supported_version(rendered: Rendered) -> None:
    assert rendered.objects
    for found in rendered.objects:
        validate(json.dumps(found))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_valid(path: Path) -> None:
    validate(json.dumps(yaml.safe_load(path.read_text())))


@cache
def validate(text: str) -> None:
    """Most objects are the same in many combinations; once is enough."""
    found = json.loads(text)
    builtin = [found]
    if custom_resources.is_custom(found):
        custom_resources.validate(found)
        builtin = custom_resources.jobs_of(found)
    for version in VERSIONS:
        for one in builtin:
            kubernetes_validate.validate(one, version, strict=True)


def certificate(key: str) -> str:
    spec = f'{{"secretName": "a", "issuerRef": {{"name": "b"}}, "privateKey": {key}}}'
    about = '"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": "a"}'
    return f'{{{about}, "spec": {spec}}}'


def runtime(job: str) -> str:
    jobs = f'[{{"name": "node", "template": {{"spec": {job}}}}}]'
    about = '"apiVersion": "trainer.kubeflow.org/v1alpha1", "kind": "TrainingRuntime"'
    return f'{{{about}, "spec": {{"template": {{"spec": {{"replicatedJobs": {jobs}}}}}}}}}'


@pytest.mark.parametrize(
    "text",
    [
        '{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "datum": {}}',
        '{"apiVersion": "example.org/v1", "kind": "Unheard", "metadata": {"name": "a"}}',
        certificate('{"sise": 256}'),
        certificate('{"size": "256"}'),
        certificate('{"algorithm": "ECDA"}'),
        runtime('{"backoffLimits": 1, "template": {"spec": {"containers": [{"name": "a"}]}}}'),
        runtime('{"template": {"spec": {"containers": [{"name": "a", "resources": {"a": {}}}]}}}'),
    ],
)
def test_validation_is_strict(text: str) -> None:
    with pytest.raises(REFUSED):
        validate(text)


def test_validation_takes_what_is_right() -> None:
    validate(certificate('{"size": 256, "algorithm": "ECDSA"}'))
    validate(runtime('{"template": {"spec": {"containers": [{"name": "a"}]}}}'))


def test_everything_lies_in_a_namespace_that_enforces_restricted(rendered: Rendered) -> None:
    labels = rendered.named("Namespace", "clipcurate")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for found in rendered.objects:
        if found["kind"] not in ("Namespace", "PriorityClass", "PersistentVolume"):
            assert found["metadata"]["namespace"] == "clipcurate", found["metadata"]


def test_settings_are_ones_that_the_services_know(rendered: Rendered) -> None:
    known = {
        f"{kind.model_config['env_prefix']}{field}".upper()
        for kind in SETTINGS
        for field in kind.model_fields
    }
    assert "CLIPCURATE_COUNTER_REDIS_URL" in known
    for workload in rendered.services():
        given = {name for name in workload.settings if name.startswith("CLIPCURATE_")}
        assert given
        assert given <= known, given - known
        kind = next(k for k in SETTINGS if k.__name__ == f"{workload.name.title()}Settings")
        prefix = f"CLIPCURATE_{workload.name.upper()}_"
        values = {n.removeprefix(prefix).lower(): v for n, v in workload.settings.items()}
        kind(**{n: parsed(v) for n, v in values.items() if n in kind.model_fields and v})


def test_files_that_settings_name_are_mounted(rendered: Rendered) -> None:
    for workload in rendered.workloads():
        for name, value in workload.settings.items():
            if value.startswith("/") and name.startswith("CLIPCURATE_"):
                workload.assert_mounted(value)
        probes = [
            workload.container[f"{when}Probe"] for when in ("startup", "readiness", "liveness")
        ]
        for path in re.findall(r'"(/tls/[^"]+)"', json.dumps(probes)):
            workload.assert_mounted(path)


def test_local_fits_a_node_of_two_cores_and_four_gib() -> None:
    rendered = Rendered(render(K8S / "overlays" / "local"))
    most = {h["spec"]["scaleTargetRef"]["name"]: h["spec"]["maxReplicas"]
            for h in rendered.of("HorizontalPodAutoscaler")}  # fmt: skip
    milli = mebi = 0
    for workload in rendered.workloads():
        request = workload.container["resources"]["requests"]
        copies = most.get(workload.name, workload.object["spec"].get("replicas"))
        milli += copies * int(request["cpu"].removesuffix("m"))
        mebi += copies * int(request["memory"].removesuffix("Mi"))
    assert milli <= 2000 - 1000 - 100  # kubeadm's own pods, and the demo
    assert mebi <= 4096 - 1024
    matcher = next(one for one in rendered.workloads() if one.name == "matcher")
    assert int(matcher.setting("cache_bytes")) <= 2**28  # a quarter of its memory
    assert matcher.container["resources"]["limits"]["memory"] == "1Gi"


def test_production_serves_no_reflection() -> None:
    for workload in Rendered(render(K8S / "overlays" / "production")).services():
        assert workload.setting("reflection").lower() == "false"


def test_images_are_those_of_compose(rendered: Rendered) -> None:
    lines = (ROOT / ".env").read_text().splitlines()
    known = dict(line.split("=", 1) for line in lines if "_IMAGE=" in line)
    for workload in rendered.workloads():
        name = "matcher" if workload.name == "client" else workload.name
        assert workload.container["image"] == known[f"{name.upper()}_IMAGE"]


def test_the_overlay_that_the_docs_have_made(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operations" / "from-an-empty-cluster.md").read_text()
    written = re.findall(r"kustomization.yaml <<END\n(.*?)^ {4}END$", page, re.S | re.M)
    lines = re.sub("^ {4}", "", "".join(written), flags=re.M)
    assert len(written) == 2
    mine = shutil.copytree(K8S, tmp_path / "k8s") / "overlays" / "production" / "kustomization.yaml"
    shipped = mine.read_text().replace("# - ../../components/gpu", "  - ../../components/launcher")
    mine.write_text(shipped + lines.replace("$registry", "registry.example"))
    made = Rendered(render(mine.parent))
    images = {workload.name: workload.container["image"] for workload in made.workloads()}
    assert images["client"] == images["matcher"] == "registry.example/matcher:0.1.0"
    trainer = next(one for one in made.workloads() if one.name == "trainer")
    assert trainer.settings["CLIPCURATE_TRAINER_IMAGE"] == trainer.container["image"]
    assert trainer.settings["CLIPCURATE_TRAINER_NODES"] == "2"
    assert made.named("PersistentVolumeClaim", "data")["spec"]["storageClassName"] == "shared"


def test_every_component_and_overlay_is_tried() -> None:
    used = {name for names in combinations() for name in names}
    assert used | {"local-volumes"} == {path.name for path in (K8S / "components").iterdir()}
    assert set(OVERLAYS) == {path.name for path in (K8S / "overlays").iterdir()}


def parsed(value: str) -> Any:
    """A setting's text as pydantic-settings reads it: JSON where it is a list or an object."""
    return yaml.safe_load(value) if value[0] in "[{" else value
