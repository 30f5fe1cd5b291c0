"""Custom resources against the models that packages have of their published definitions."""

from typing import Any

from cloudcoil.models.cert_manager import v1 as cert_manager
from cloudcoil.models.keda import v1alpha1 as keda
from cloudcoil.models.prometheus_operator import v1 as prometheus
from kubeflow_trainer_api import models as trainer
from pydantic import BaseModel

MODELS: dict[tuple[str, str], type[BaseModel]] = {
    ("cert-manager.io/v1", "Certificate"): cert_manager.Certificate,
    ("cert-manager.io/v1", "Issuer"): cert_manager.Issuer,
    ("keda.sh/v1alpha1", "ScaledObject"): keda.ScaledObject,
    ("monitoring.coreos.com/v1", "PrometheusRule"): prometheus.PrometheusRule,
    ("monitoring.coreos.com/v1", "ServiceMonitor"): prometheus.ServiceMonitor,
    ("trainer.kubeflow.org/v1alpha1", "TrainingRuntime"): trainer.TrainerV1alpha1TrainingRuntime,
    ("trainer.kubeflow.org/v1alpha1", "TrainJob"): trainer.TrainerV1alpha1TrainJob,
    ("jobset.x-k8s.io/v1alpha2", "JobSet"): trainer.JobsetV1alpha2JobSet,
}
QUANTITIES = {"requests", "limits", "sizeLimit"}
"""Amounts, which Kubeflow's models take for objects; those of `jobs_of` are checked as Jobs are."""


def is_custom(found: dict[str, Any]) -> bool:
    """Say whether an object is of a kind that a cluster may lack."""
    return (found["apiVersion"], found["kind"]) in MODELS


def validate(found: dict[str, Any]) -> None:
    """Hold a custom resource to its model, strictly: every field is known and of the right type.

    Raises ValueError. The models ignore what they do not know and convert what they can, so what
    they have understood must be the object itself.
    """
    kind = MODELS[found["apiVersion"], found["kind"]]
    given = _without_quantities(found) if kind.__name__ in dir(trainer) else found
    understood = kind.model_validate(given).model_dump(
        mode="json", by_alias=True, exclude_unset=True
    )
    if understood != given:
        raise ValueError(f"{given} is understood as {understood}")


def jobs_of(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the Jobs (batch/v1) that a custom resource has templates of."""
    spec = found["spec"]
    replicated = spec.get("template", {}).get("spec", spec).get("replicatedJobs", [])
    about = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "of-a-template"}}
    return [{**about, "spec": one["template"]["spec"]} for one in replicated]


def _without_quantities(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_quantities(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {k: _without_quantities(v) for k, v in value.items() if k not in QUANTITIES}
