"""The id of a training: a hash of what determines its result. Needs no torch."""

from typing import Any

from clipcurate.datasets.manifest import Manifest
from clipcurate.hashing import hash_json
from clipcurate.training.config import TrainConfig


def settings_of(manifest: Manifest, config: TrainConfig) -> dict[str, Any]:
    """Return what determines the weights: the dataset's bytes and the settings."""
    return {"dataset": manifest.dataset_hash, "config": config.determinants()}


def training_id(manifest: Manifest, config: TrainConfig, eval_url: str = "") -> str:
    """Return the id of a training on the dataset of `manifest`, evaluated on `eval_url`."""
    return hash_json({**settings_of(manifest, config), "eval_url": eval_url})
