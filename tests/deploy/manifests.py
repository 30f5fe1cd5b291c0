"""Rendered manifests as values: what kustomize makes of an overlay, or of base and components."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from pydantic_settings import BaseSettings

from clipcurate.rpc.settings import SecuritySettings
from services.counter.settings import CounterSettings
from services.matcher.settings import MatcherSettings
from services.sampler.settings import SamplerSettings
from services.trainer.settings import TrainerSettings
from tests.conftest import ROOT

GRPC_PORTS = {"counter": 50051, "matcher": 50052, "sampler": 50053, "trainer": 50054}
KUBECTL = Path(sys.executable).with_name("kubectl")
K8S = ROOT / "k8s"
EXAMPLES = sorted((K8S / "examples").iterdir())
OVERLAYS = ("local", "bare-node", "production")
SETTINGS: tuple[type[BaseSettings], ...] = (
    CounterSettings,
    MatcherSettings,
    SamplerSettings,
    TrainerSettings,
    SecuritySettings,
)
OPTIONS = (
    (("redis",), ("redis", "tls", "redis-tls", "cert-manager"), ("external-redis",)),
    (("storage-pvc",), ("storage-s3",)),
    ((), ("gpu",), ("launcher",), ("launcher", "kueue"), ("kubeflow",)),
    ((), ("client", "network-policies", "egress"), ("tls", "cert-manager"), ("monitoring", "keda")),
)
"""Components of which one each is taken; all of the last line together are a choice as well."""
FILES = {
    **{
        f"{name}-tls": {"tls.crt", "tls.key", "ca.crt"} for name in (*GRPC_PORTS, "redis", "client")
    },
    "redis-ca": {"ca.crt"},
    "clipcurate-redis": {"password", "url", "user"},
}
"""The keys of secrets."""
FIRST = ("client", "kubeflow")
"""Components that those after them patch."""

Object = dict[str, Any]


def combinations() -> list[tuple[str, ...]]:
    """Every choice of components, and all that go together at once."""
    every = tuple(name for names in OPTIONS[-1] for name in names)
    choices = [*OPTIONS[:-1], (*OPTIONS[-1], every)]
    taken = ({name for part in parts for name in part} for parts in product(*choices))
    return sorted({tuple(sorted(names, key=_position)) for names in taken})


def _position(component: str) -> tuple[bool, str]:
    """Return where in a list a component stands: anywhere, but for those that others patch.

    `redis-tls` changes what `redis` has made; by name it comes after it.
    """
    return component not in FIRST, component


@cache
def render(folder: Path) -> tuple[Object, ...]:
    """Return what `kubectl kustomize` makes of a folder."""
    done = subprocess.run(
        [KUBECTL, "kustomize", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return tuple(yaml.load_all(done.stdout, yaml.CSafeLoader))


def compose(folder: Path, components: Sequence[str], base: str = "base") -> tuple[Object, ...]:
    """Render a kustomization of base and components that is written into `folder`."""
    paths = {name: os.path.relpath(K8S / name, folder.resolve()) for name in (base, "components")}
    value = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "clipcurate",
        "resources": [paths[base]],
        "components": [f"{paths['components']}/{name}" for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(value))
    return render(folder)


@dataclass(frozen=True)
class Workload:
    """What runs pods: a Deployment or a StatefulSet, with the settings that its pods get."""

    object: Object
    settings: dict[str, str]

    @property
    def name(self) -> str:
        name: str = self.object["metadata"]["name"]
        return name

    @property
    def labels(self) -> dict[str, str]:
        labels: dict[str, str] = self.object["spec"]["template"]["metadata"]["labels"]
        return labels

    @property
    def pod(self) -> Object:
        pod: Object = self.object["spec"]["template"]["spec"]
        return pod

    @property
    def mounts(self) -> dict[str, Object]:
        """Where the container has which volume; `claim` is that of a StatefulSet's own."""
        volumes = {volume["name"]: volume for volume in self.pod["volumes"]}
        for own in self.object["spec"].get("volumeClaimTemplates", []):
            volumes[own["metadata"]["name"]] = {"name": own["metadata"]["name"], "claim": own}
        found = self.container["volumeMounts"]
        assert sorted(mount["name"] for mount in found) == sorted(volumes)
        assert not any("subPath" in mount for mount in found), "it would never be renewed"
        return {mount["mountPath"]: volumes[mount["name"]] for mount in found}

    def assert_mounted(self, path: str) -> None:
        """Fail unless a file is that of a secret at its place."""
        folder, _, file = path.rpartition("/")
        secret = self.mounts[folder]["secret"]["secretName"]
        keys = next(keys for name, keys in FILES.items() if secret.startswith(name))
        assert file in keys, f"{secret} has no {file}"

    @property
    def container(self) -> Object:
        (container,) = self.pod["containers"]
        assert "initContainers" not in self.pod
        return dict(container)

    def setting(self, name: str) -> str:
        """Return a setting by its field's name, or the class's default."""
        prefix = f"CLIPCURATE_{self.name.upper()}_"
        kind = next(kind for kind in SETTINGS if kind.model_config["env_prefix"] == prefix)
        default = kind.model_fields[name].default
        return self.settings.get(prefix + name.upper(), str(default))


@dataclass(frozen=True)
class Rendered:
    """The objects of one rendering."""

    objects: tuple[Object, ...]

    def of(self, *kinds: str) -> list[Object]:
        return [found for found in self.objects if found["kind"] in kinds]

    def named(self, kind: str, name: str) -> Object:
        (found,) = (one for one in self.of(kind) if one["metadata"]["name"] == name)
        return found

    def workloads(self) -> Iterator[Workload]:
        for found in self.of("Deployment", "StatefulSet"):
            yield Workload(found, self._environment(found["spec"]["template"]["spec"]))

    def services(self) -> Iterator[Workload]:
        """Yield the four that speak gRPC."""
        return (one for one in self.workloads() if one.name in GRPC_PORTS)

    def selected(self, selector: Object) -> list[Workload]:
        return [one for one in self.workloads() if matches(selector, one.labels)]

    def _environment(self, pod: Object) -> dict[str, str]:
        found: dict[str, str] = {}
        (container,) = pod["containers"]
        for source in container.get("envFrom", []):
            if "configMapRef" in source:
                found |= self.named("ConfigMap", source["configMapRef"]["name"])["data"]
        return found | {one["name"]: one.get("value", "") for one in container.get("env", [])}


def matches(selector: Object, labels: dict[str, str]) -> bool:
    """Say whether a label selector selects what has these labels."""
    assert set(selector) <= {"matchLabels", "matchExpressions"}
    wanted = selector.get("matchLabels", {})
    if not wanted.items() <= labels.items():
        return False
    for rule in selector.get("matchExpressions", []):
        inside = labels.get(rule["key"]) in rule["values"]
        if inside is not {"In": True, "NotIn": False}[rule["operator"]]:
            return False
    return True
