"""The id of a training: a hash of what determines its result. Needs no torch."""

from typing import Any

from clipcurate.hashing import hash_json
from clipcurate.training.config import TrainConfig


def settings_of(manifest: dict[str, Any], config: TrainConfig) -> dict[str, Any]:
    """Return what determines the weights: the dataset's identity and content, and the settings."""
    dataset = {name: manifest.get(name) for name in ("identity", "content_hash")}
    return {"dataset": dataset, "config": config.determinants()}


def training_id(manifest: dict[str, Any], config: TrainConfig, eval_url: str = "") -> str:
    """Return the id of a training on the dataset of `manifest`, evaluated on `eval_url`."""
    return hash_json({**settings_of(manifest, config), "eval_url": eval_url})
