"""What the trainer shows to Prometheus."""

from prometheus_client import Gauge

STEP = Gauge("clipcurate_training_step", "Optimiser steps taken", ["training"])
LOSS = Gauge("clipcurate_training_loss", "Contrastive loss of the last step", ["training"])
PAIRS_PER_SECOND = Gauge(
    "clipcurate_training_pairs_per_second", "Image-text pairs per second, last step", ["training"]
)


def show(training_id: str, step: int, loss: float, pairs_per_second: float) -> None:
    """Show where a training stands."""
    STEP.labels(training_id).set(step)
    LOSS.labels(training_id).set(loss)
    PAIRS_PER_SECOND.labels(training_id).set(pairs_per_second)
