"""What the trainer shows to Prometheus: trainings that run, each by its id."""

from prometheus_client import Gauge

from clipcurate.training.events import numbers
from clipcurate.training.progress import Standing


def _gauge(name: str, about: str, *labels: str) -> Gauge:
    return Gauge(f"clipcurate_training_{name}", about, ["training", *labels])


STEPS = _gauge("steps", "Optimiser steps that the whole training takes")
RESTARTS = _gauge("restarts", "Times that the training was seen to go back to a checkpoint")
EVALUATION = _gauge(
    "evaluation_ratio", "Figures of the latest evaluation, between 0 and 1", "dataset", "metric"
)
FIGURES = {
    "step": _gauge("step", "Optimiser steps taken"),
    "seen_pairs": _gauge("pairs", "Image-text pairs seen"),
    "loss": _gauge("loss", "Contrastive loss of the last step"),
    "lr": _gauge("learning_rate", "Learning rate of the last step"),
    "logit_scale": _gauge("logit_scale", "Scale of the logits, the inverse of the temperature"),
    "grad_norm": _gauge("gradient_norm", "Norm of the last step's gradient"),
    "pairs_per_second": _gauge(
        "pairs_per_second", "Image-text pairs per second of the last step, on all devices"
    ),
    "mfu": _gauge(
        "mfu_ratio", "Share of the device's peak that the model's operations make; 0 if not known"
    ),
}
"""Gauges by the name of their figure in a `Standing`."""
_NO_RATIOS = ("images", "texts", "chance")


def show(training_id: str, standing: Standing, steps: int, restarts: int, eval_set: str) -> None:
    """Show where a training stands.

    Args:
        training_id: the training.
        standing: where it stands.
        steps: how many it takes in all.
        restarts: how often it went back to a checkpoint.
        eval_set: name of the set that it is evaluated on.
    """
    for name, gauge in FIGURES.items():
        gauge.labels(training_id).set(getattr(standing, name))
    STEPS.labels(training_id).set(steps)
    RESTARTS.labels(training_id).set(restarts)
    for path, number in numbers(standing.evaluation):
        kind, _, metric = path.partition("/")
        if not metric.rpartition("/")[2].startswith(_NO_RATIOS):
            dataset = kind if kind == "train_retrieval" else eval_set
            EVALUATION.labels(training_id, dataset, metric).set(number)


def forget(training_id: str) -> None:
    """Show nothing more of a training that has ended."""
    for gauge in (*FIGURES.values(), STEPS, RESTARTS, EVALUATION):
        gauge.remove_by_labels({"training": training_id})
