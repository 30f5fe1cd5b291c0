"""What the trainer shows to Prometheus: trainings that run, each by its id."""

from prometheus_client import Gauge

from clipcurate.training.progress import Standing

STEP = Gauge("clipcurate_training_step", "Optimiser steps taken", ["training"])
LOSS = Gauge("clipcurate_training_loss", "Contrastive loss of the last step", ["training"])
PAIRS_PER_SECOND = Gauge(
    "clipcurate_training_pairs_per_second", "Image-text pairs per second, last step", ["training"]
)
MFU = Gauge(
    "clipcurate_training_mfu_ratio",
    "Share of the device's peak that the model's operations make; 0 if not known",
    ["training"],
)


def show(training_id: str, standing: Standing) -> None:
    """Show where a training stands."""
    STEP.labels(training_id).set(standing.step)
    LOSS.labels(training_id).set(standing.loss)
    PAIRS_PER_SECOND.labels(training_id).set(standing.pairs_per_second)
    MFU.labels(training_id).set(standing.mfu)


def forget(training_id: str) -> None:
    """Show nothing more of a training that has ended."""
    for gauge in (STEP, LOSS, PAIRS_PER_SECOND, MFU):
        gauge.remove(training_id)
